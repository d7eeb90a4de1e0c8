//! The image that a tag stands for, if it stands for one.

use crate::clients::registry::{At, Choice, Content, Image, Registry, RegistryError};
use crate::commands::facts::labels;
use crate::error::Error;
use crate::names::{BasesId, ImagePlatform, InputsId, Tag};

/// The image of a tag. A tag that points to something else has none: a tombstone, a chart, a signature.
pub async fn at(registry: &Registry, tag: &Tag) -> Result<Option<Image>, Error> {
    match registry.image(At::Tag(tag), Choice::Rather(&ImagePlatform::default())).await {
        Err(RegistryError::NotAnImage { .. }) => Ok(None),
        answer => Ok(answer?),
    }
}

/// The image of a tag, when it is labelled with these inputs, and with these bases when there are any. Any other is no
/// image of them.
pub async fn of_inputs(
    registry: &Registry,
    tag: &Tag,
    inputs: InputsId,
    bases: Option<BasesId>,
) -> Result<Option<Image>, Error> {
    let is_theirs = |image: &Image| {
        image.label(labels::INPUTS) == Some(&inputs.to_string())
            && bases.is_none_or(|bases| image.label(labels::BASES) == Some(&bases.to_string()))
    };
    Ok(at(registry, tag).await?.filter(is_theirs))
}

/// The image for a platform: this one, or another of the index that it was found by. Without a wish it is linux/amd64,
/// and a single image is taken whatever it is for.
pub async fn of_platform(registry: &Registry, image: Image, wanted: Option<&ImagePlatform>) -> Result<Image, Error> {
    let default = ImagePlatform::default();
    let platform = wanted.unwrap_or(&default);
    match registry.content(&image.manifest)? {
        // The index says what its images are for, whatever their configs say.
        Content::Index { .. } => {
            let digest = image.manifest.digest;
            let chosen = registry.image(At::Digest(&digest), Choice::Only(platform)).await?;
            Ok(chosen.unwrap_or(image))
        }
        Content::Image { .. } if wanted.is_some() && !image.is_for(platform) => {
            Err(registry.other_platform(&image, platform).into())
        }
        Content::Image { .. } => Ok(image),
    }
}
