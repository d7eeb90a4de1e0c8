//! Which of several engines builds an image.

use sha2::{Digest as _, Sha256};

/// The engines in the order in which they are asked to build an image, the one that has its cache first.
///
/// Every image has an order of its own that depends on nothing but the names (rendezvous hashing): it always goes to the
/// same engine, the images spread over all, and when an engine is added or taken away only its own images move.
pub fn in_order<T>(engines: Vec<T>, name: impl Fn(&T) -> String, image: &str) -> Vec<T> {
    let mut ranked: Vec<_> = engines
        .into_iter()
        .map(|engine| {
            let name = name(&engine);
            let rank: [u8; 32] = Sha256::new_with_prefix(&name).chain_update([0]).chain_update(image).finalize().into();
            (rank, name, engine)
        })
        .collect();
    ranked.sort_by(|(a, a_name, _), (b, b_name, _)| (b, b_name).cmp(&(a, a_name)));
    ranked.into_iter().map(|(_, _, engine)| engine).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(engines: &[&str], image: &str) -> Vec<String> {
        in_order(engines.iter().map(ToString::to_string).collect(), String::clone, image)
    }

    #[test]
    fn images_spread_over_the_engines() {
        let first = |number| order(&["a", "b", "c", "d"], &format!("image {number}")).remove(0);
        for engine in ["a", "b", "c", "d"] {
            let share = (0..1000).filter(|number| first(*number) == engine).count();
            assert!((150..350).contains(&share), "{engine} has {share} of 1000");
        }
    }

    proptest! {
        #[test]
        fn the_order_in_the_source_does_not_matter_and_the_rest_stays_when_one_goes(
            image in "[a-z]{1,8}",
            gone in 0..5_usize,
        ) {
            let all = ["a", "b", "c", "d", "e"];
            let ordered = order(&all, &image);
            let mut reversed = all;
            reversed.reverse();
            prop_assert_eq!(&order(&reversed, &image), &ordered);
            let rest: Vec<&str> = all.iter().copied().filter(|engine| *engine != all[gone]).collect();
            let expected: Vec<String> = ordered.into_iter().filter(|engine| engine != all[gone]).collect();
            prop_assert_eq!(order(&rest, &image), expected);
        }
    }
}
