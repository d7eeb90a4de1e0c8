//! Sets the tags of an image, in the order that keeps `$BRANCH-latest` right whoever else puts at the same time.

mod builds;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::future::try_join_all;

use crate::clients::git::{Depth, Want};
use crate::clients::registry::{At, Image};
use crate::commands::error::VersionOrigin;
use crate::commands::facts::labels;
use crate::commands::history::{FIRST_DEPTH, History};
use crate::commands::put::subject::{Described, Remote};
use crate::commands::put::{Put, artifact_path};
use crate::commands::{StepError, image};
use crate::concourse::Version;
use crate::decide::tags::{
    Alias, Ask, Latest, LineReading, NotOnBranch, Outcome, ROUNDS, Release, TagValues, Told, aliases, commit_tag,
    content_tag, is_release_branch, latest_tag, user_tag, version_name,
};
use crate::decide::versions::{Since, versions_since};
use crate::error::Error;
use crate::names::{Digest, Tag};
use crate::request::{Aliases, Follow, PutParams};

/// How often a content tag that somebody removes is set again before it is given up.
const RESTORES: usize = 3;

/// The tags that a put sets besides the content tag, known to be allowed before anything is built.
pub struct Tags {
    commit: Tag,
    /// The version, on a branch of which versions are released.
    version: Option<(Tag, VersionOrigin)>,
    users: Vec<Tag>,
    /// The release whose aliases move, if they do.
    bumped: Option<Release>,
    latest: Tag,
    /// Where the commit tag and the latest tag point to, as read before the build.
    before: BTreeMap<Tag, Option<Digest>>,
}

impl Tags {
    /// Reads which tags are wanted, and refuses those that cannot be had: before the build, which may be long.
    pub async fn plan(
        put: &Put<'_>,
        params: &PutParams,
        artifacts: &Path,
        variables: &BTreeMap<String, String>,
        found: Option<&Image>,
    ) -> Result<Self, Error> {
        let prefix = &put.recipe.tag_prefix;
        let wanted = wanted_version(put, params)?;
        let branch = &put.subject.branch;
        let on_default = matches!(&put.subject.remote, Remote::Tip(tip) if tip.default_branch.as_ref() == Some(branch));
        let releases = on_default || is_release_branch(&put.source.release_branches, branch);
        let values = TagValues {
            version: &put.version,
            commit: put.subject.commit,
            branch: &put.subject.branch,
            given_version: wanted.as_ref().map(|(version, _)| version.as_str()),
            build: variables,
        };
        let user_tag = |key: &dyn Fn() -> String, template: &str| {
            user_tag(prefix, template, &values).map_err(|source| StepError::UserTag { key: key(), source })
        };
        let mut bumped = None;
        let version = match (wanted.clone(), &params.version) {
            (Some((version, origin)), _) if releases => {
                if params.aliases == Aliases::Bump {
                    bumped = release(put, &version)?;
                }
                let name = version_name(&version, put.source.registry.variant.as_deref());
                Some((user_tag(&|| origin.to_string(), &name)?, origin))
            }
            (Some(_), Some(version)) => {
                let (version, branch) = (version.clone(), branch.clone());
                return Err(StepError::NoReleaseBranch { version, branch }.into());
            }
            (Some((version, _)), None) => {
                put.say.line(format_args!(
                    "tag: VERSION {version} is set on the default branch and on `source.release_branches` only; left"
                ));
                None
            }
            (None, _) if params.aliases == Aliases::Bump => return Err(StepError::NothingToBump.into()),
            (None, _) => None,
        };
        for alias in bumped.iter().flat_map(|release| aliases(release, put.source.registry.variant.as_deref(), [])) {
            user_tag(&|| "params.bump_aliases".to_owned(), &alias.name)?;
        }
        let mut users = Vec::new();
        for (index, template) in params.tags.iter().enumerate() {
            users.push(user_tag(&|| format!("params.tags[{index}]"), template)?);
        }
        if let Some(file) = &params.additional_tags {
            let path = artifact_path(artifacts, "params.additional_tags", file)?;
            let text = std::fs::read_to_string(&path).map_err(|source| StepError::File {
                what: "read `params.additional_tags` from",
                path,
                source,
            })?;
            for template in text.split_whitespace() {
                users.push(user_tag(&|| format!("params.additional_tags ({file})"), template)?);
            }
        }
        let commit = commit_tag(prefix, put.version.commit);
        let latest = latest_tag(prefix, &put.subject.branch);
        let mut tags = Self { commit, version, users, bumped, latest, before: BTreeMap::new() };
        tags.read_before(put).await?;
        tags.refuse_taken_version(put).await?;
        for tag in [&tags.commit, &tags.latest] {
            let before = tags.before.get(tag).copied().flatten();
            if before.is_some() && before != found.map(|image| image.manifest.digest) {
                tags.refuse_foreign(put, tag).await?;
            }
        }
        Ok(tags)
    }

    async fn read_before(&mut self, put: &Put<'_>) -> Result<(), Error> {
        let tags: BTreeSet<&Tag> =
            [&self.commit, &self.latest].into_iter().chain(&self.users).chain(self.version_tag()).collect();
        let read = tags.into_iter().map(async |tag| {
            let found = put.registry.resolve(tag).await?;
            Ok::<_, Error>((tag.clone(), found.map(|descriptor| descriptor.digest)))
        });
        self.before = try_join_all(read).await?.into_iter().collect();
        Ok(())
    }

    fn version_tag(&self) -> Option<&Tag> {
        self.version.as_ref().map(|(tag, _)| tag)
    }

    /// A version is never moved: not to other inputs, nor to a rebuild with another epoch or on other bases.
    async fn refuse_taken_version(&mut self, put: &Put<'_>) -> Result<(), Error> {
        let Some((tag, origin)) = &self.version else { return Ok(()) };
        if self.before.get(tag).is_none_or(Option::is_none) {
            return Ok(());
        }
        let image = image::at(put.registry, tag).await?;
        let label = |name| image.as_ref().and_then(|image| image.label(name));
        let theirs = label(labels::INPUTS);
        if theirs == Some(&put.version.inputs.to_string()) {
            let bases = put.version.bases.map(|bases| bases.to_string());
            if bases.is_some() && label(labels::BASES) != bases.as_deref() {
                put.say.line(format_args!("tag: {tag} left: it was released on other base images, and is never moved"));
                (self.version, self.bumped) = (None, None);
            }
            return Ok(());
        }
        // Those of an image that was built without an epoch are what others are without theirs.
        let theirs_but_epoch = label(labels::INPUTS_BUT_EPOCH).or(theirs);
        if theirs_but_epoch == Some(&put.subject.inputs_but_epoch().to_string()) {
            put.say.line(format_args!("tag: {tag} left: it was released in another epoch, and is never moved"));
            (self.version, self.bumped) = (None, None);
            return Ok(());
        }
        Err(StepError::VersionTaken {
            repository: put.registry.repository().clone(),
            tag: tag.clone(),
            theirs: theirs.map(str::to_owned),
            ours: put.version.inputs,
            origin: origin.clone(),
        }
        .into())
    }

    /// Sets what does not point to the image already, the branch's tag last; answers the tags that point to it now.
    pub async fn write(&self, put: &Put<'_>, image: &Image, read: Read) -> Result<Vec<Tag>, Error> {
        let mut ours = vec![put.content.clone()];
        let (mut written, newest) = self.point_commit(put, image, read).await?;
        let is_newest = newest == image.manifest.digest;
        if is_newest {
            ours.push(self.commit.clone());
        }
        for tag in self.version_tag().into_iter().chain(&self.users) {
            let before = self.before.get(tag).copied().flatten();
            written |= self.set(put, tag, image, before, Owner::Any).await?;
            ours.push(tag.clone());
        }
        if let Some(release) = &self.bumped {
            let (aliases, moved) = self.bump(put, image, release).await?;
            ours.extend(aliases);
            written |= moved;
        }
        let (moved, points_here) = self.settle_latest(put, image, newest, read).await?;
        if points_here && is_newest {
            ours.push(self.latest.clone());
        }
        if written || moved {
            self.keep_content(put, image).await?;
        }
        Ok(ours)
    }

    /// Moves the aliases of a release that have no newer one; which those are, and whether one was written.
    ///
    /// Decided again after it was written, until two decisions agree: a newer release that came meanwhile gets back what
    /// we took from it. Its own put wrote its version before it looked at the aliases, so one of the two sees the other.
    async fn bump(&self, put: &Put<'_>, image: &Image, release: &Release) -> Result<(Vec<Tag>, bool), Error> {
        let (prefix, variant) = (&put.recipe.tag_prefix, put.source.registry.variant.as_deref());
        let tag = |name: &str| -> Tag {
            format!("{prefix}{name}").parse().expect("aliases were tried as tags before the build, and tags are tags")
        };
        let mut decided = None;
        let mut set: BTreeSet<String> = BTreeSet::new();
        let mut written = false;
        for _ in 0..ROUNDS {
            let there = put.registry.tags().await?;
            let now = aliases(release, variant, there.iter().filter_map(|name| name.strip_prefix(prefix.as_str())));
            if decided.as_ref() == Some(&now) {
                return Ok((set.iter().map(|name| tag(name)).collect(), written));
            }
            for Alias { name, newer } in &now {
                let alias = tag(name);
                match newer {
                    None if set.contains(name) => {}
                    None => {
                        let before = put.registry.resolve(&alias).await?.map(|descriptor| descriptor.digest);
                        written |= self.set(put, &alias, image, before, Owner::Any).await?;
                        set.insert(name.clone());
                    }
                    Some(newer) => {
                        if set.remove(name)
                            && let Some(manifest) = put.registry.manifest(At::Tag(&tag(newer))).await?
                        {
                            put.registry.put_manifest(At::Tag(&alias), &manifest).await?;
                        }
                        put.say.line(format_args!("tag: {alias} left: there is {}", tag(newer)));
                    }
                }
            }
            decided = Some(now);
        }
        let tag = tag(&version_name(&release.to_string(), variant));
        Err(StepError::Unsettled { repository: put.registry.repository().clone(), tag, rounds: ROUNDS }.into())
    }

    /// Points a tag to an image, unless it does so already; whether anything was written.
    async fn set(
        &self,
        put: &Put<'_>,
        tag: &Tag,
        image: &Image,
        before: Option<Digest>,
        owner: Owner,
    ) -> Result<bool, Error> {
        let digest = image.manifest.digest;
        if before == Some(digest) {
            put.say.line(format_args!("tag: {tag} is there already"));
            return Ok(false);
        }
        if before.is_some() && owner == Owner::Checked {
            self.refuse_foreign(put, tag).await?;
        }
        put.registry.put_manifest(At::Tag(tag), &image.manifest).await?;
        let now = put.registry.resolve(tag).await?.map(|descriptor| descriptor.digest);
        if now != Some(digest) {
            return Err(StepError::TagMoved { repository: put.registry.repository().clone(), tag: tag.clone() }.into());
        }
        put.say.line(format_args!("tag: {tag} {}", if before.is_some() { "moved" } else { "set" }));
        Ok(true)
    }

    /// Two git repositories that share a registry repository must not move each other's tags.
    async fn refuse_foreign(&self, put: &Put<'_>, tag: &Tag) -> Result<(), Error> {
        let there = image::at(put.registry, tag).await?;
        let theirs = there.as_ref().and_then(|image| image.label(labels::REPOSITORY));
        match theirs {
            Some(theirs) if theirs != put.recipe.repository.as_str() => Err(StepError::Foreign {
                repository: put.registry.repository().clone(),
                tag: tag.clone(),
                theirs: theirs.to_owned(),
                ours: put.recipe.repository.clone(),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Drives the rule of the branch's tag; whether the tag was written, and whether it points to our image.
    async fn settle_latest(
        &self,
        put: &Put<'_>,
        image: &Image,
        newest: Digest,
        read: Read,
    ) -> Result<(bool, bool), Error> {
        let mut rule = Latest::new(put.version);
        let mut told = None;
        let mut moved = false;
        let mut restored = 0;
        // The rule reads again after its own write; a build may have taken so long that it must before the first, too.
        let mut fresh = match read {
            Read::JustNow => Some((put.subject.remote.clone(), self.before.get(&self.latest).copied().flatten())),
            Read::BeforeABuild => None,
        };
        loop {
            match rule.next(told.take()) {
                Ask::ReadLine => {
                    let remote = match &fresh {
                        Some((remote, _)) => remote.clone(),
                        None => Remote::of_named(put.git.tip(Some(&put.subject.branch)).await)?,
                    };
                    told = Some(Told::Line(self.read_line(put, &remote).await?));
                }
                Ask::ReadTags(wanted) => {
                    // Before the first write our image was just found or pushed.
                    let known = fresh.is_some().then_some(newest);
                    let built = self.read_built(put, &wanted, known).await?;
                    let latest = match fresh.take() {
                        Some((_, before)) => before,
                        None => put.registry.resolve(&self.latest).await?.map(|descriptor| descriptor.digest),
                    };
                    told = Some(Told::Tags { built, latest });
                }
                Ask::Write { version, digest } => {
                    let before = put.registry.resolve(&self.latest).await?.map(|descriptor| descriptor.digest);
                    self.point(put, &self.latest, image, (version.inputs, digest), before).await?;
                    moved = true;
                    told = Some(Told::Written);
                }
                // Whoever puts the same inputs next must find our image, so the tag is set before it is decided anew.
                Ask::Done(Outcome::ContentGone) if restored < RESTORES => {
                    self.keep_content(put, image).await?;
                    // By this one the rule tells a build, where bases are followed.
                    if put.registry.resolve(self.shown_by(put)).await?.is_none() {
                        put.registry.put_manifest(At::Tag(self.shown_by(put)), &image.manifest).await?;
                    }
                    restored += 1;
                    rule = Latest::new(put.version);
                }
                Ask::Done(outcome) => {
                    return self.finish_latest(put, &outcome, moved, newest == image.manifest.digest);
                }
            }
        }
    }

    async fn read_line(&self, put: &Put<'_>, remote: &Remote) -> Result<LineReading, Error> {
        let Remote::Tip(tip) = remote else { return Ok(LineReading::BranchGone) };
        if tip.commit == put.subject.commit {
            return Ok(LineReading::Since(Since::Versions { newer: Vec::new(), own: Some(put.version) }));
        }
        let want = Want::Branch(tip.branch.clone());
        if !put.git.has(tip.commit).await? {
            put.git.fetch(&want, Depth::Commits(FIRST_DEPTH)).await?;
        }
        let mut history = History::read(put.git, put.recipe, want, tip.commit).await?;
        // What git does not describe says nothing of the commit that it was built at.
        if put.subject.described == Described::ByGit {
            history.tell(put.subject.commit, put.subject.state());
        }
        let since = history.ask(|known| versions_since(&known.line, &known.states, put.subject.commit)).await?;
        Ok(LineReading::Since(match since {
            // An image that git does not describe is placed by the commit that it was built at.
            Since::Versions { newer, own: _ } => Since::Versions { newer, own: Some(put.version) },
            Since::NotOnLine => Since::NotOnLine,
        }))
    }

    /// The images of versions, by their content tags. Where bases are followed git does not tell which ones a version was
    /// built on, so its commit's tag shows that it was built. `known` is the image of our own, when nobody needs to look
    /// for it.
    async fn read_built(
        &self,
        put: &Put<'_>,
        wanted: &[Version],
        known: Option<Digest>,
    ) -> Result<BTreeMap<Version, Digest>, Error> {
        let prefix = &put.recipe.tag_prefix;
        let mut by_tag: BTreeMap<Tag, Option<Digest>> = BTreeMap::new();
        let mut built = BTreeMap::new();
        for version in wanted {
            let tag = match put.recipe.follow {
                Follow::GitAndBases => commit_tag(prefix, version.commit),
                Follow::Git => content_tag(prefix, version.inputs, None),
            };
            let digest = match (
                known.filter(|_| version.inputs == put.version.inputs && &tag == self.shown_by(put)),
                by_tag.get(&tag),
            ) {
                (Some(known), _) => Some(known),
                // A revert brings inputs that an older version had.
                (None, Some(read)) => *read,
                // A tombstone or a foreign image under the tag is no image of these inputs.
                (None, None) => {
                    let image = image::of_inputs(put.registry, &tag, version.inputs, None).await?;
                    image.map(|image| image.manifest.digest)
                }
            };
            by_tag.insert(tag, digest);
            built.extend(digest.map(|digest| (*version, digest)));
        }
        Ok(built)
    }

    /// The tag that shows that our version is built.
    fn shown_by<'a>(&'a self, put: &'a Put<'_>) -> &'a Tag {
        match put.recipe.follow {
            Follow::GitAndBases => &self.commit,
            Follow::Git => &put.content,
        }
    }

    fn finish_latest(
        &self,
        put: &Put<'_>,
        outcome: &Outcome,
        moved: bool,
        is_newest: bool,
    ) -> Result<(bool, bool), Error> {
        let tag = &self.latest;
        let repository = || put.registry.repository().clone();
        let says = |why: String| put.say.line(format_args!("tag: {tag} left: {why}"));
        match outcome {
            Outcome::Set => Ok((true, true)),
            Outcome::Unchanged => {
                if !is_newest {
                    says("it has a build on newer base images".to_owned());
                } else if !moved {
                    put.say.line(format_args!("tag: {tag} is there already"));
                }
                Ok((moved, true))
            }
            Outcome::Kept { newer } => {
                says(format!(
                    "the branch has a newer image, of {} (inputs {}); ours is of {}",
                    newer.commit.short(),
                    newer.inputs.short(),
                    put.version.commit.short()
                ));
                Ok((moved, false))
            }
            Outcome::NotOnBranch { why } => {
                says(match why {
                    NotOnBranch::BranchGone => format!("branch {} is gone from the remote", put.subject.branch),
                    NotOnBranch::NotOnLine => format!(
                        "{} is not on the first-parent line of branch {} (a force push, or the checkout of another branch)",
                        put.subject.commit.short(),
                        put.subject.branch
                    ),
                });
                Ok((moved, false))
            }
            Outcome::ContentGone => {
                Err(StepError::ContentGone { repository: repository(), tag: put.content.clone() }.into())
            }
            Outcome::Unsettled { rounds } => {
                Err(StepError::Unsettled { repository: repository(), tag: tag.clone(), rounds: *rounds }.into())
            }
        }
    }

    /// Reads the content tag once more, and sets it again when it is gone: a reaper may have judged it before our tags were there.
    async fn keep_content(&self, put: &Put<'_>, image: &Image) -> Result<(), Error> {
        if image::of_inputs(put.registry, &put.content, put.version.inputs, put.version.bases).await?.is_none() {
            put.registry.put_manifest(At::Tag(&put.content), &image.manifest).await?;
            put.say.line(format_args!("tag: {} was removed meanwhile; set again", put.content));
        }
        Ok(())
    }
}

/// The version that is wanted, and what names it.
fn wanted_version(put: &Put<'_>, params: &PutParams) -> Result<Option<(String, VersionOrigin)>, StepError> {
    let there = put.recipe.details.as_ref().zip(put.subject.details().version.as_ref());
    match (&params.version, there) {
        (Some(given), Some((details, there))) if there.as_str() != given.to_string() => {
            Err(StepError::TwoVersions { given: given.clone(), details: details.clone(), there: there.clone() })
        }
        (Some(given), _) => Ok(Some((given.to_string(), VersionOrigin::Params))),
        (None, Some((details, there))) => Ok(Some((there.to_string(), VersionOrigin::Details(details.clone())))),
        (None, None) => Ok(None),
    }
}

/// The release whose aliases are to move. A pre-release has none.
fn release(put: &Put<'_>, version: &str) -> Result<Option<Release>, StepError> {
    let release: Release = version.parse().map_err(|source| StepError::NoAliases { source })?;
    if release.is_pre_release() {
        put.say.line(format_args!("tag: aliases left: {release} is a pre-release"));
        return Ok(None);
    }
    Ok(Some(release))
}

/// When branch and tags were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A moment ago.
    JustNow,
    /// Before a build, which may have taken an hour: another put may have set the branch's tag meanwhile.
    BeforeABuild,
}

/// Whether a tag may only be moved when its image is this git repository's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Checked,
    Any,
}
