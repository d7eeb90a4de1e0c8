//! Reads `source.reap`.

use std::num::NonZeroUsize;

use super::read::Block;
use super::{ReapSource, RequestError};
use crate::decide::reap::{Keep, KeepLast, Per};
use crate::names::BadName;

/// The rules of the reaper.
pub(super) fn read(block: &Block) -> Result<ReapSource, RequestError> {
    let per = match block.text("keep_last_per").as_deref() {
        None => None,
        Some("branch") => Some(Per::Branch),
        Some("image") => Some(Per::Image),
        Some(other) => {
            let why = "is neither branch nor image".to_owned();
            return Err(block.refuse("keep_last_per", BadName { what: "text", text: other.to_owned(), why }));
        }
    };
    let last = match (count(block, "keep_last"), per) {
        (Some(count), per) => Some(KeepLast { count, per: per.unwrap_or(Per::Branch) }),
        (None, Some(_)) => {
            return Err(RequestError::Contradiction {
                what: format!("`{}` is given without `{}`", block.key("keep_last_per"), block.key("keep_last")),
                hint: "say how many are kept, or leave it out".to_owned(),
            });
        }
        (None, None) => None,
    };
    let branch_tags = block.texts("branch_tags").unwrap_or_default();
    let branch_tags = branch_tags.iter().map(|text| text.parse().map_err(|error| block.refuse("branch_tags", error)));
    Ok(ReapSource {
        grace: block.parsed("grace")?,
        max_delete: count(block, "max_delete").map(NonZeroUsize::get),
        delete_untagged: block.flag("delete_untagged"),
        keep: Keep {
            last,
            protected: block.texts("protected").unwrap_or_default(),
            branch_tags: branch_tags.collect::<Result<_, _>>()?,
        },
    })
}

fn count(block: &Block, name: &str) -> Option<NonZeroUsize> {
    let number = block.map.get(name)?.as_u64()?;
    NonZeroUsize::new(usize::try_from(number).unwrap_or(usize::MAX))
}
