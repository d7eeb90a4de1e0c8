//! The image that a tag stands for, if it stands for one.

use crate::clients::registry::{At, Image, Registry, RegistryError};
use crate::commands::facts::labels;
use crate::error::Error;
use crate::names::{InputsId, Tag};

/// The image of a tag. A tag that points to something else has none: a tombstone, a chart, a signature.
pub async fn at(registry: &Registry, tag: &Tag) -> Result<Option<Image>, Error> {
    match registry.image(At::Tag(tag)).await {
        Err(RegistryError::NotAnImage { .. }) => Ok(None),
        answer => Ok(answer?),
    }
}

/// The image of a tag, when it is labelled with these inputs. Any other is no image of them.
pub async fn of_inputs(registry: &Registry, tag: &Tag, inputs: InputsId) -> Result<Option<Image>, Error> {
    let image = at(registry, tag).await?;
    Ok(image.filter(|image| image.label(labels::INPUTS) == Some(&inputs.to_string())))
}
