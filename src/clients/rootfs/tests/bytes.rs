//! Layers that are damaged at random: whatever their bytes are, unpacking ends, with an error or without one, and writes
//! nothing outside.
//!
//! `FUZZ_SECONDS=3600 cargo test --release --lib any_bytes_are_unpacked_or_refused` runs it for an hour.

use std::time::{Duration, Instant};

use super::*;

/// How long it runs when nothing is said.
const SECONDS: u64 = 2;

/// Numbers that look random, the same on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // Xorshift: Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below the limit")
    }
}

/// A layer with something of everything that is read: long names, PAX records, sparse files, links, devices.
fn seed() -> Vec<u8> {
    let long = format!("{}/{}", "p".repeat(120), "n".repeat(200));
    Tar::default()
        .directory("d")
        .file("d/f", &"text ".repeat(300))
        .file(&long, "long")
        .symlink("s", "d")
        .file("s/through", "link")
        .hard_link("h", "d/f")
        .item(&Item { device: (1, 3), ..item(b'3', b"null") })
        .item(&item(b'6', b"fifo"))
        .pax(&[("path", b"pax"), ("mtime", b"1.5"), ("uid", b"7"), ("SCHILY.xattr.user.a", b"b")])
        .file("short", "x")
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9000")])
        .file("sparse-1", &format!("{:\0<512}abc", "2\n0\n1\n8000\n2\n"))
        .pax(&[("GNU.sparse.size", b"5000"), ("GNU.sparse.map", b"0,1,4000,2")])
        .file("sparse-0", "abc")
        .file("d/.wh.f", "")
        .file("d/.wh..wh..opq", "")
        .end()
}

/// Damages some bytes. Half of the time headers get a right checksum again: otherwise nobody would read further.
fn damage(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(bytes.len());
        match numbers.below(5) {
            0 => bytes[at] = numbers.next() as u8,
            1 => bytes[at] ^= 1 << numbers.below(8),
            // What numbers, names and kinds are made of.
            2 => bytes[at] = b"0123456789/.\0 xgLKS\x80\xff"[numbers.below(21)],
            3 => {
                let (from, length) = (numbers.below(bytes.len()), numbers.below(600));
                let copy = bytes[from..(from + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    if numbers.below(2) == 0 {
        for header in bytes.chunks_exact_mut(512) {
            let sum: u32 =
                header[..148].iter().chain(&header[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
            if header[148..156].iter().any(|&byte| byte != 0)
                && header[148..154].iter().all(|byte| byte.is_ascii_digit())
            {
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
    }
}

#[test]
fn any_bytes_are_unpacked_or_refused() {
    #[expect(clippy::disallowed_methods, reason = "how long to look for faults is for who runs the test to say")]
    let seconds = std::env::var("FUZZ_SECONDS").map_or(SECONDS, |text| text.parse().expect("it is a number"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let seed = seed();
    let whole = Unpacking::of(std::slice::from_ref(&seed)).expect();
    assert!(whole.path("sparse-1").exists(), "the seed is read to its end");
    while Instant::now() < end {
        let before = numbers.0;
        let mut layers = Vec::new();
        for _ in 0..=numbers.below(3) {
            let mut layer = seed.clone();
            damage(&mut layer, &mut numbers);
            layer = match numbers.below(4) {
                0 => gzip(&layer),
                1 => zstd::encode_all(layer.as_slice(), 1).expect("memory takes it"),
                _ => layer,
            };
            if numbers.below(4) == 0 {
                damage(&mut layer, &mut numbers);
            }
            layers.push(layer);
        }
        let unpacking = Unpacking::of(&layers);
        let mut outside: Vec<_> = fs::read_dir(unpacking.outside.path())
            .expect("it is there")
            .map(|entry| entry.expect("it is there").file_name())
            .collect();
        outside.sort();
        assert_eq!(outside, ["canary", "rootfs"], "numbers from {before:#x}");
        assert_eq!(list(&unpacking.outside.path().join("canary")), ["file=sings"], "numbers from {before:#x}");
    }
}
