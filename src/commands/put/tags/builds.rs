//! The builds of one version, of which there are several where bases are followed: the tag of the commit points to the
//! newest.

use super::{Owner, Read, Tags};
use crate::clients::registry::{At, Choice, Image};
use crate::commands::facts::labels;
use crate::commands::put::{Put, followed};
use crate::commands::{StepError, image};
use crate::decide::bases::{Build, Newest, Next, Reading};
use crate::decide::tags::content_tag;
use crate::error::Error;
use crate::names::{BasesId, Digest, ImagePlatform, InputsId, Tag};

impl Tags {
    /// Points the tag of the commit to the newest build of the version; whether it was written, and which build that is.
    /// Without bases that are followed it is ours.
    pub(super) async fn point_commit(&self, put: &Put<'_>, ours: &Image, read: Read) -> Result<(bool, Digest), Error> {
        let (tag, digest) = (&self.commit, ours.manifest.digest);
        let before = self.before.get(tag).copied().flatten();
        let Some((followed, bases)) = put.followed.as_ref().zip(put.version.bases) else {
            return Ok((self.set(put, tag, ours, before, Owner::Checked).await?, digest));
        };
        let mut rule = Newest::new(Build { bases, digest }, followed.at_first, before);
        let mut fresh = match read {
            Read::JustNow => Some((before, followed.at_first)),
            Read::BeforeABuild => None,
        };
        loop {
            let (there, now) = match fresh.take() {
                Some(read) => read,
                None => (put.registry.resolve(tag).await?.map(|found| found.digest), followed::now(put).await),
            };
            let reading = Reading {
                tag: there,
                bases_there: self.bases_there(put, ours, there).await?,
                now,
                built_on_now: match now {
                    Some(now) if now != bases => built_on(put, now).await?,
                    Some(_) => Some(digest),
                    None => None,
                },
            };
            match rule.next(&reading) {
                Next::Write(newest) => self.point(put, tag, ours, (put.version.inputs, newest), there).await?,
                Next::ReadAgain => {}
                Next::Done { newest, wrote } => {
                    if newest != digest {
                        put.say.line(format_args!("tag: {tag} left: it has a build on newer base images"));
                    } else if !wrote {
                        put.say.line(format_args!("tag: {tag} is there already"));
                    }
                    return Ok((wrote, newest));
                }
                Next::Unsettled { rounds } => {
                    let repository = put.registry.repository().clone();
                    return Err(StepError::Unsettled { repository, tag: tag.clone(), rounds }.into());
                }
            }
        }
    }

    /// The bases of the build to which the tag of the commit points; `None`: it is an image of another version, or one
    /// whose bases nobody followed.
    async fn bases_there(&self, put: &Put<'_>, ours: &Image, there: Option<Digest>) -> Result<Option<BasesId>, Error> {
        if there.is_none() || there == Some(ours.manifest.digest) {
            return Ok(there.and(put.version.bases));
        }
        let image = image::of_inputs(put.registry, &self.commit, put.version.inputs, None).await?;
        let image = image.filter(|image| Some(image.manifest.digest) == there);
        Ok(image.and_then(|image| image.label(labels::BASES)?.parse().ok()))
    }

    /// Points a tag to an image of these inputs: ours, or one whose own put did not come to the tag.
    pub(super) async fn point(
        &self,
        put: &Put<'_>,
        tag: &Tag,
        ours: &Image,
        (inputs, digest): (InputsId, Digest),
        before: Option<Digest>,
    ) -> Result<(), Error> {
        if digest == ours.manifest.digest {
            self.set(put, tag, ours, before, Owner::Checked).await?;
            return Ok(());
        }
        let other = put.registry.image(At::Digest(&digest), Choice::Rather(&ImagePlatform::default())).await?;
        if let Some(other) = other.filter(|image| image.label(labels::INPUTS) == Some(&inputs.to_string())) {
            self.set(put, tag, &other, before, Owner::Checked).await?;
        }
        Ok(())
    }
}

/// The build of our version on these bases.
async fn built_on(put: &Put<'_>, bases: BasesId) -> Result<Option<Digest>, Error> {
    let inputs = put.version.inputs;
    let tag = content_tag(&put.recipe.tag_prefix, inputs, Some(bases));
    Ok(image::of_inputs(put.registry, &tag, inputs, Some(bases)).await?.map(|image| image.manifest.digest))
}
