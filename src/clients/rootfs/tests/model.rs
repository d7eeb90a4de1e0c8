//! Random honest layers, unpacked with all threads, beside a model that has none: what image-spec 1.1 says, entry by entry
//! in a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a layer does at a path.
#[derive(Debug, Clone)]
enum Act {
    /// Data of one byte value; some lie in several blocks.
    File {
        byte: u8,
        length: usize,
    },
    HardLink {
        to: String,
    },
    Symlink,
    Directory,
    Whiteout,
    Opaque,
}

#[derive(Debug, Clone)]
struct Step {
    path: String,
    act: Act,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
}

fn paths() -> impl Strategy<Value = String> {
    let part = prop::sample::select(&["a", "b", "c"]);
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn steps() -> impl Strategy<Value = Step> {
    let length = prop::sample::select(&[0, 1, 511, 512, 70_000, 600_000]);
    let act = prop_oneof![
        6 => (any::<u8>(), length).prop_map(|(byte, length)| Act::File { byte, length }),
        2 => paths().prop_map(|to| Act::HardLink { to }),
        1 => Just(Act::Symlink),
        3 => Just(Act::Directory),
        2 => Just(Act::Whiteout),
        1 => Just(Act::Opaque),
    ];
    let mode = prop::sample::select(&[0o644, 0o755, 0o400, 0o4755, 0o2775, 0o666]);
    let owner = prop::sample::select(&[(0, 0), (0, 0), (0, 8), (1000, 1000)]);
    (paths(), act, mode, owner, 1_u64..1_000_000).prop_map(|(path, act, mode, owner, mtime)| Step {
        path,
        act,
        mode,
        owner,
        mtime,
    })
}

/// What the model has at a path.
#[derive(Debug, Clone, PartialEq)]
struct Node {
    kind: NodeKind,
    /// Mode, owner, group and time, where an entry gave them.
    attributes: Option<(u32, u64, u64, u64)>,
    /// Which layer brought it; none, if it was made on the way to something else.
    layer: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
enum NodeKind {
    Directory,
    Symlink,
    /// With the number of the step that made it: hard links share it.
    File {
        byte: u8,
        length: usize,
        made: usize,
    },
}

#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<String, Node>);

impl Model {
    /// Does one step; `None` when no layer could have it.
    fn step(&mut self, number: usize, step: &Step, layer: usize) -> Option<()> {
        let path = &step.path;
        // What goes through symlinks is not in the model.
        let reached = if matches!(step.act, Act::Opaque) { format!("{path}/") } else { path.clone() };
        let is_symlink = |path: &str| self.0.get(path).is_some_and(|node| node.kind == NodeKind::Symlink);
        if reached.match_indices('/').any(|(at, _)| is_symlink(&reached[..at])) {
            return None;
        }
        match step.act {
            Act::Whiteout => {
                self.hide(path, layer);
                return Some(());
            }
            Act::Opaque => {
                let inside: Vec<String> = self.children(path).cloned().collect();
                inside.iter().for_each(|path| self.hide(path, layer));
                return Some(());
            }
            _ => {}
        }
        self.make_parents(path);
        let kind = match &step.act {
            Act::HardLink { to } => {
                let target = self.0.get(to).filter(|node| node.kind != NodeKind::Directory)?.clone();
                if to != path {
                    self.remove(path);
                    self.0.get(to)?;
                }
                self.0.insert(path.clone(), Node { layer: Some(layer), ..target });
                return Some(());
            }
            Act::File { byte, length } => NodeKind::File { byte: *byte, length: *length, made: number },
            Act::Symlink => NodeKind::Symlink,
            _ => NodeKind::Directory,
        };
        let stays = kind == NodeKind::Directory && self.0.get(path).is_some_and(|node| node.kind == kind);
        if !stays {
            self.remove(path);
        }
        let mode = if kind == NodeKind::Symlink { 0o777 } else { step.mode };
        let attributes = Some((mode, step.owner.0, step.owner.1, step.mtime));
        self.0.insert(path.clone(), Node { kind, attributes, layer: Some(layer) });
        Some(())
    }

    fn below(&self, path: &str) -> impl Iterator<Item = &String> {
        let prefix = format!("{path}/");
        self.0.keys().filter(move |other| other.starts_with(&prefix))
    }

    fn children(&self, path: &str) -> impl Iterator<Item = &String> {
        let depth = path.matches('/').count() + 1;
        self.below(path).filter(move |other| other.matches('/').count() == depth)
    }

    fn remove(&mut self, path: &str) {
        let gone: Vec<String> = self.below(path).cloned().chain([path.to_owned()]).collect();
        for path in &gone {
            self.0.remove(path);
        }
    }

    /// Removes what lower layers have: a directory stays when something stays in it.
    fn hide(&mut self, path: &str, layer: usize) {
        let inside: Vec<String> = self.children(path).cloned().collect();
        inside.iter().for_each(|path| self.hide(path, layer));
        let stays =
            self.0.get(path).is_none_or(|node| node.layer == Some(layer)) || self.children(path).next().is_some();
        if !stays {
            self.0.remove(path);
        }
    }

    fn make_parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            if self.0.get(parent).is_none_or(|node| node.kind != NodeKind::Directory) {
                self.remove(parent);
                let attributes = None;
                self.0.insert(parent.to_owned(), Node { kind: NodeKind::Directory, attributes, layer: None });
            }
        }
    }

    /// A line for each path, hard links with the first path of their file.
    fn lines(&self) -> Vec<String> {
        let mut first: BTreeMap<usize, &str> = BTreeMap::new();
        let line = |(path, node): (&String, &Node)| {
            let Node { kind, attributes, .. } = node;
            let attributes = attributes.map_or("made on the way".to_owned(), |(mode, uid, gid, mtime)| {
                format!("{mode:o} {uid}:{gid} {mtime}")
            });
            match kind {
                NodeKind::Directory => format!("{path}/ {attributes}"),
                NodeKind::Symlink => format!("{path}-> {attributes}"),
                NodeKind::File { byte, length, .. } => format!("{path} {attributes} {length} of {byte}"),
            }
        };
        let mut lines: Vec<String> = self.0.iter().map(line).collect();
        for (path, node) in &self.0 {
            if let NodeKind::File { made, .. } = node.kind
                && let Some(other) = first.get(&made)
            {
                lines.push(format!("{path} is {other}"));
            } else if let NodeKind::File { made, .. } = node.kind {
                first.insert(made, path);
            }
        }
        lines
    }

    /// The same of what is on the disk.
    fn lines_on_disk(&self, root: &Path) -> Vec<String> {
        let mut first: BTreeMap<u64, String> = BTreeMap::new();
        let (mut lines, mut links) = (Vec::new(), Vec::new());
        for path in paths_below(root) {
            let metadata = fs::symlink_metadata(root.join(&path)).expect("it was just listed");
            let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
            let has_attributes = self.0.get(&path).is_none_or(|node| node.attributes.is_some());
            let attributes = if has_attributes {
                format!("{mode:o} {uid}:{gid} {}", metadata.mtime())
            } else {
                assert_eq!((mode, uid, gid), (0o755, 0, 0), "{path} was made on the way");
                "made on the way".to_owned()
            };
            if metadata.is_dir() {
                lines.push(format!("{path}/ {attributes}"));
            } else if metadata.is_symlink() {
                lines.push(format!("{path}-> {attributes}"));
            } else {
                let content = fs::read(root.join(&path)).expect("it is a file");
                let byte = content.first().copied().unwrap_or(0);
                assert!(content.iter().all(|&other| other == byte), "{path} has data of another file");
                lines.push(format!("{path} {attributes} {} of {byte}", content.len()));
                match first.get(&metadata.ino()) {
                    Some(other) => links.push(format!("{path} is {other}")),
                    None => drop(first.insert(metadata.ino(), path)),
                }
            }
        }
        lines.extend(links);
        lines
    }
}

/// All paths below a directory, sorted as the model's are.
fn paths_below(root: &Path) -> Vec<String> {
    let (mut paths, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).expect("it is a directory") {
            let path = entry.expect("it can be read").path();
            if fs::symlink_metadata(&path).expect("it is there").is_dir() {
                waiting.push(path.clone());
            }
            paths.push(path.strip_prefix(root).expect("it is below").to_str().expect("it is ours").to_owned());
        }
    }
    paths.sort();
    paths
}

fn tar_of(layer: &[Step]) -> Vec<u8> {
    let mut archive = Tar::default();
    for Step { path, act, mode, owner, mtime } in layer {
        let (directory, name) =
            path.rsplit_once('/').map_or(("", path.as_str()), |(directory, name)| (directory, name));
        let data;
        let (kind, path, target, data): (u8, String, &str, &[u8]) = match act {
            Act::File { byte, length } => {
                data = vec![*byte; *length];
                (b'0', path.clone(), "", &data)
            }
            Act::HardLink { to } => (b'1', path.clone(), to, &[]),
            Act::Symlink => (b'2', path.clone(), "nowhere", &[]),
            Act::Directory => (b'5', path.clone(), "", &[]),
            Act::Whiteout => (b'0', format!("{directory}/.wh.{name}"), "", &[]),
            Act::Opaque => (b'0', format!("{path}/.wh..wh..opq"), "", &[]),
        };
        archive = archive.item(&Item {
            target: target.as_bytes(),
            data,
            mode: *mode,
            owner: *owner,
            mtime: *mtime,
            ..item(kind, path.as_bytes())
        });
    }
    archive.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_all_threads_make_of_layers_is_what_the_model_says(
        layers in prop::collection::vec(prop::collection::vec(steps(), 0..20), 1..5)
    ) {
        let mut model = Model::default();
        let mut number = 0;
        let mut honest = Vec::new();
        for (position, layer) in layers.iter().enumerate() {
            let mut kept = Vec::new();
            for step in layer {
                number += 1;
                let mut next = model.clone();
                // What cannot be done is not in the layer.
                if next.step(number, step, position).is_some() {
                    model = next;
                    kept.push(step.clone());
                }
            }
            honest.push(kept);
        }
        let archives: Vec<_> = honest.iter().map(|layer| tar_of(layer)).collect();
        let unpacking = Unpacking::of(&archives);
        prop_assert!(unpacking.result.is_ok(), "{:?}", unpacking.result);
        let mut expected = model.lines();
        // A file of no bytes has no byte value.
        for line in &mut expected {
            if let Some((rest, _)) = line.split_once(" 0 of ") {
                *line = format!("{rest} 0 of 0");
            }
        }
        prop_assert_eq!(expected, model.lines_on_disk(&unpacking.path("")));
    }
}
