//! What an image is made of, and the digest of it: the `inputs` of a version.

pub mod changes;
mod encoding;
mod error;
mod pathspec;
#[cfg(test)]
pub(in crate::decide) mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::decide::bases::{self, Wanted};
use crate::details::{self, Details};
use crate::dockerfile::{self, Position, Sources, Unclear, Whole};
use crate::dockerignore::Ignore;
use crate::names::{Branch, Digest, GitPath, GitRepository, ObjectId};
use crate::pairs;
use crate::request::{BuildOptions, BuildSource, ContextSource, Follow, Network, Reuse, Source, Timestamps};
use pathspec::Pathspec;

pub use encoding::{FORMAT, digest};
pub use error::{InputsError, Pairs};
pub use words::{NamedContext, Words};

/// What git says of a path besides its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// 100644.
    File,
    /// 100755.
    Executable,
    /// 120000.
    Symlink,
    /// 160000: a commit of another repository.
    Submodule,
}

/// One path of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its mode.
    pub mode: Mode,
    /// Its blob, or the commit of a submodule.
    pub id: ObjectId,
}

/// Every path of a commit that is no directory.
pub type Tree = BTreeMap<GitPath, Entry>;

/// The modes of a tree: all that [`select`] needs of it.
pub fn modes(tree: &Tree) -> BTreeMap<GitPath, Mode> {
    tree.iter().map(|(path, entry)| (path.clone(), entry.mode)).collect()
}

/// The words of a build: what decides an image besides the content of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The directory that COPY sees; the root of the repository when empty.
    pub context: GitPath,
    /// The Dockerfile.
    pub dockerfile: GitPath,
    /// Which files count; `None`: those that the Dockerfile reads.
    pub paths: Option<Vec<String>>,
    /// Which files do not count.
    pub ignore_paths: Vec<String>,
    /// The file with NAME, VERSION and labels.
    pub details: Option<GitPath>,
    /// The stage that is built; `None` is the last one.
    pub target: Option<String>,
    /// Build args.
    pub args: BTreeMap<String, String>,
    /// A file with further build args.
    pub args_file: Option<GitPath>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// A file with further labels.
    pub labels_file: Option<GitPath>,
    /// Any text: another text is another image.
    pub epoch: Option<String>,
    /// The platforms that are built for; one at least.
    pub platforms: BTreeSet<String>,
    /// The names of the secrets that the build may read. Their values never count.
    pub secrets: BTreeSet<String>,
    /// The contexts besides the main one, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What else was said of the build.
    pub words: Words,
    /// Whether the images that are built on are followed.
    pub follow: Follow,
    /// The git repository.
    pub repository: GitRepository,
    /// What stands before every tag; empty for nothing.
    pub tag_prefix: String,
}

impl Recipe {
    /// The platform when none is given.
    pub const PLATFORM: &str = "linux/amd64";

    /// The words of a source: of each key, that it counts, or by `_` that it cannot change an image.
    pub fn new(source: &Source) -> Self {
        let build = &source.build;
        let dockerfile = build.dockerfile();
        // By name, so that a new key of the source is not forgotten here.
        let BuildSource {
            context,
            dockerfile: _,
            paths,
            ignore_paths,
            details,
            target,
            args,
            args_file,
            labels,
            labels_file,
            epoch,
            reuse,
            follow,
            options,
        } = build.clone();
        let BuildOptions {
            platforms,
            secrets,
            ssh,
            contexts,
            add_hosts,
            network,
            allow: _,
            shm_size_bytes,
            ulimits,
            steps: _,
            cache: _,
            compression: _,
            timestamps,
            file_times: _,
        } = options;
        let default = BTreeSet::from([Self::PLATFORM.to_owned()]);
        let pairs = |map: BTreeMap<String, String>| map.into_iter().map(|(name, value)| format!("{name}={value}"));
        let network = match network {
            Network::Engine => None,
            Network::None => Some("none"),
            Network::Host => Some("host"),
        };
        let named = |source| match source {
            ContextSource::Image(reference) => NamedContext::Image(reference),
            ContextSource::Git { url, commit } => NamedContext::Git { url, commit },
            ContextSource::Directory(directory) => NamedContext::Directory(directory),
            ContextSource::Layout(directory) => NamedContext::Layout(directory),
        };
        let branch = match reuse {
            Reuse::Repository => None,
            Reuse::Branch => source.git.branch.as_ref().map(Branch::as_str),
        };
        Self {
            context,
            dockerfile,
            paths,
            ignore_paths,
            details,
            target,
            args,
            args_file,
            labels,
            labels_file,
            epoch,
            // Each key of the source that may change an image has its line here; keys that cannot are left out above.
            platforms: if platforms.is_empty() { default } else { platforms },
            secrets: secrets.into_keys().collect(),
            contexts: contexts.into_iter().map(|(name, source)| (name, named(source))).collect(),
            words: Words::default()
                .with("branch", branch)
                .with("ssh", ssh.into_keys())
                .with("add_hosts", pairs(add_hosts))
                .with("network", network)
                .with("shm_size", shm_size_bytes.map(|bytes| bytes.to_string()))
                .with("ulimits", pairs(ulimits))
                .with_flag("reproducible", timestamps == Timestamps::Rewritten),
            follow,
            repository: source.git.uri.repository().clone(),
            tag_prefix: source.registry.tag_prefix.clone(),
        }
    }

    /// The words that stand for a finished image: its digest, and what is put on it. No file is read for it.
    #[must_use]
    pub fn of_finished(&self, digest: &Digest) -> Self {
        Self {
            context: GitPath::new(""),
            dockerfile: GitPath::new("Dockerfile"),
            paths: None,
            ignore_paths: Vec::new(),
            target: None,
            args: BTreeMap::new(),
            args_file: None,
            secrets: BTreeSet::new(),
            contexts: BTreeMap::new(),
            words: self.words.clone().with("image", [digest.to_string()]),
            follow: Follow::Git,
            ..self.clone()
        }
    }

    /// Where the ignore file may be: beside the Dockerfile, else in the context.
    fn ignore_files(&self) -> [GitPath; 2] {
        let mut own = self.dockerfile.as_bytes().to_vec();
        own.extend_from_slice(b".dockerignore");
        [GitPath::new(own), self.context.join(b".dockerignore")]
    }
}

/// An answer, or what must be read before there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<T, N> {
    /// The answer.
    Known(T),
    /// What is missing.
    Need(N),
}

/// The files that an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Every counted path, with the reason.
    pub files: BTreeMap<GitPath, Why>,
    /// What decided it, for the paths of other commits.
    pub selector: Selector,
    /// The Dockerfile: a regular file, where a symlink leads when the recipe names one.
    pub dockerfile: GitPath,
    /// The ignore file that is in force.
    pub ignore_file: Option<GitPath>,
    /// What `image.details` says.
    pub details: Details,
    /// The build args: the recipe's, and those of its file.
    pub args: BTreeMap<String, String>,
    /// The labels: the recipe's, and those of its file.
    pub labels: BTreeMap<String, String>,
    /// Why the whole context counts, when it does.
    pub whole: Option<Whole>,
    /// The images that the build takes; none when they are not followed.
    pub bases: Wanted,
}

/// Why a path counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is the Dockerfile, or the symlink to it.
    Dockerfile,
    /// It is the ignore file, or would be if it existed.
    IgnoreFile,
    /// It is `image.details`.
    Details,
    /// It is the file with build args.
    ArgsFile,
    /// It is the file with labels.
    LabelsFile,
    /// It is a source of the Dockerfile, or lies below one.
    Source {
        /// The line of the Dockerfile.
        line: usize,
    },
    /// It stands where a source of the Dockerfile needs a directory.
    Above {
        /// The line of the Dockerfile.
        line: usize,
    },
    /// The whole context counts.
    Context,
    /// It lies in a named context.
    NamedContext,
    /// It stands where the context, or a named one, needs a directory.
    AboveContext,
    /// `source.build.paths` names it.
    Paths,
    /// `source.build.paths` names something that must lie below it, as in a submodule.
    AbovePaths,
    /// It says how files at or below its directory are checked out.
    Attributes,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dockerfile => f.write_str("the Dockerfile"),
            Self::IgnoreFile => f.write_str("the ignore file"),
            Self::Details => f.write_str("image.details"),
            Self::ArgsFile => f.write_str("the file with build args"),
            Self::LabelsFile => f.write_str("the file with labels"),
            Self::Source { line } => write!(f, "a source in line {line} of the Dockerfile"),
            Self::Above { line } => write!(f, "above a source in line {line} of the Dockerfile"),
            Self::Context => f.write_str("in the context, which counts as a whole"),
            Self::NamedContext => f.write_str("in a named context"),
            Self::AboveContext => f.write_str("above the context"),
            Self::Paths => f.write_str("in source.build.paths"),
            Self::AbovePaths => f.write_str("above what source.build.paths names"),
            Self::Attributes => f.write_str("the attributes of counted files"),
        }
    }
}

/// Decides which paths count, for the commit that it was made of and for the diffs to its parents.
///
/// If a diff between that commit and another touches no path that counts, both have the same inputs; if it touches
/// one, they differ. So a path that would change the selection if it existed counts too, although it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Dockerfile, ignore file, details, the files of args and labels, and submodules that are kept in part, where they are and where they could be.
    named: BTreeMap<GitPath, Why>,
    context: GitPath,
    /// The directories that are named contexts: all that lies in them counts.
    contexts: Vec<GitPath>,
    choice: Choice,
    ignored: Vec<Pathspec>,
    /// The directories with counted files at or below them.
    directories: BTreeSet<GitPath>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    /// `source.build.paths`.
    Paths(Vec<Pathspec>),
    /// The Dockerfile's sources.
    Sources { sources: Vec<dockerfile::Source>, whole: bool, ignore: Ignore },
}

impl Selector {
    /// Why a path counts; `None` when it does not.
    pub fn counts(&self, path: &GitPath) -> Option<Why> {
        self.counts_as_content(path).or_else(|| {
            (path.parts().last() == Some(b".gitattributes") && self.directories.contains(&path.parent()))
                .then_some(Why::Attributes)
        })
    }

    fn counts_as_content(&self, path: &GitPath) -> Option<Why> {
        // Nothing in a `.git` is of the repository; git itself never has such a path.
        if path.parts().any(|part| part == b".git") {
            return None;
        }
        if let Some(why) = self.named.get(path) {
            return Some(*why);
        }
        if [&self.context].into_iter().chain(&self.contexts).any(|context| context.is_within(path)) {
            return Some(Why::AboveContext);
        }
        if self.ignored.iter().any(|pathspec| pathspec.matches(path)) {
            return None;
        }
        if self.contexts.iter().any(|context| path.is_within(context)) {
            return Some(Why::NamedContext);
        }
        match &self.choice {
            Choice::Paths(paths) if paths.iter().any(|pathspec| pathspec.matches(path)) => Some(Why::Paths),
            Choice::Paths(paths) => paths.iter().any(|pathspec| pathspec.lies_below(path)).then_some(Why::AbovePaths),
            Choice::Sources { sources, whole, ignore } => {
                let inside = path.relative_to(&self.context)?;
                let why = source_of(sources, &inside).or(whole.then_some(Why::Context))?;
                (!ignore.excludes(&inside)).then_some(why)
            }
        }
    }

    /// Why a submodule counts that the ignore file excludes, and of which it keeps a part; `None`: it does not.
    ///
    /// A path that is no submodule has no parts that could be kept, so only submodules are asked about.
    fn kept_in_part(&self, path: &GitPath) -> Option<Why> {
        let Choice::Sources { sources, whole, ignore } = &self.choice else { return None };
        let inside = path.relative_to(&self.context)?;
        let why = source_of(sources, &inside).or(whole.then_some(Why::Context))?;
        (ignore.excludes(&inside) && ignore.may_keep_below(&inside)).then_some(why)
    }

    /// Whether a symlink at this path leads a source elsewhere.
    fn diverts(&self, path: &GitPath) -> bool {
        let Choice::Sources { sources, .. } = &self.choice else { return false };
        let Some(inside) = path.relative_to(&self.context) else { return false };
        let diverts =
            |source: &dockerfile::Source| matches!(source.pattern.position(&inside), Position::Above | Position::At);
        sources.iter().any(diverts) && self.counts(path).is_some()
    }
}

fn source_of(sources: &[dockerfile::Source], path: &GitPath) -> Option<Why> {
    let mut above = None;
    for dockerfile::Source { pattern, line } in sources {
        match pattern.position(path) {
            Position::At | Position::Below => return Some(Why::Source { line: *line }),
            Position::Above => above = above.or(Some(Why::Above { line: *line })),
            Position::Apart => {}
        }
    }
    above
}

/// Which of these paths count. `texts` holds the blobs of Dockerfile, ignore file, details, and the files of args and
/// labels, as far as they are read (of a symlink, the path that it leads to); those that it lacks are asked for.
///
/// # Errors
///
/// There is no Dockerfile, or one of these files is not what it must be.
pub fn select(
    recipe: &Recipe,
    paths: &BTreeMap<GitPath, Mode>,
    texts: &BTreeMap<GitPath, Vec<u8>>,
) -> Result<Asked<Selection, Vec<GitPath>>, InputsError> {
    context_is_no_file("source.build.context", &recipe.context, paths)?;
    for (name, context) in named_directories(recipe) {
        context_is_no_file(&format!("source.build.contexts.{name}"), context, paths)?;
    }
    let mut read = Reading { texts, missing: Vec::new() };
    let dockerfile = find_dockerfile(recipe, paths, &mut read)?;
    let text = dockerfile.as_ref().and_then(|path| read.text(path));
    let ignore_file = recipe.ignore_files().into_iter().find(|path| paths.contains_key(path));
    let ignore = match &ignore_file {
        Some(path) if is_regular(paths, path) => read.text(path).map(Ignore::parse),
        // To exclude nothing would bring into the image what its author keeps out.
        Some(path) => return Err(InputsError::IgnoreFile { path: path.clone(), mode: paths[path] }),
        None => Some(Ignore::default()),
    };
    let details = read_details(recipe, paths, &mut read)?;
    let args = read_pairs(Pairs::Args, &recipe.args, recipe.args_file.as_ref(), paths, &mut read)?;
    let labels = read_pairs(Pairs::Labels, &recipe.labels, recipe.labels_file.as_ref(), paths, &mut read)?;
    let (Some(dockerfile), Some(text), Some(ignore), Some(details), Some(args), Some(labels)) =
        (dockerfile, text, ignore, details, args, labels)
    else {
        return Ok(Asked::Need(read.missing));
    };
    let (choice, mut whole) = choose(recipe, text, &args, ignore)?;
    let mut selector = Selector {
        named: named(recipe, &dockerfile, ignore_file.as_ref()),
        context: recipe.context.clone(),
        contexts: named_directories(recipe).map(|(_, directory)| directory.clone()).collect(),
        choice,
        ignored: pathspecs("source.build.ignore_paths", &recipe.ignore_paths)?,
        directories: BTreeSet::new(),
    };
    for path in paths.iter().filter(|(_, mode)| **mode == Mode::Submodule).map(|(path, _)| path) {
        if let Some(why) = selector.kept_in_part(path) {
            selector.named.insert(path.clone(), why);
        }
    }
    let symlink = paths.iter().find(|(path, mode)| **mode == Mode::Symlink && selector.diverts(path));
    if let (Some((path, _)), Choice::Sources { whole: all, .. }) = (symlink, &mut selector.choice) {
        *all = true;
        let why = format!("a source is or passes through the symlink {path}");
        whole = whole.or(Some(Whole { line: None, why }));
    }
    let bases = match recipe.follow {
        Follow::Git => Wanted::new(),
        Follow::GitAndBases => bases::wanted(recipe, text, &args)
            .map_err(|Unclear { line, why }| InputsError::Bases { path: dockerfile.clone(), line, why })?,
    };
    Ok(Asked::Known(Selection {
        files: count(&mut selector, paths),
        selector,
        dockerfile,
        ignore_file,
        details,
        args,
        labels,
        whole,
        bases,
    }))
}

/// The paths that count by their name, whether they exist or not.
fn named(recipe: &Recipe, dockerfile: &GitPath, ignore_file: Option<&GitPath>) -> BTreeMap<GitPath, Why> {
    let mut named = BTreeMap::new();
    // An ignore file that does not exist would win over those after it; those after the one that is there mean nothing.
    for path in recipe.ignore_files() {
        let in_force = Some(&path) == ignore_file;
        named.insert(path, Why::IgnoreFile);
        if in_force {
            break;
        }
    }
    named.extend(recipe.details.iter().map(|path| (path.clone(), Why::Details)));
    named.extend(recipe.args_file.iter().map(|path| (path.clone(), Why::ArgsFile)));
    named.extend(recipe.labels_file.iter().map(|path| (path.clone(), Why::LabelsFile)));
    named.extend([&recipe.dockerfile, dockerfile].map(|path| (path.clone(), Why::Dockerfile)));
    named
}

/// What the details say; `None`: they are not read yet.
fn read_details(
    recipe: &Recipe,
    paths: &BTreeMap<GitPath, Mode>,
    read: &mut Reading<'_>,
) -> Result<Option<Details>, InputsError> {
    let Some(path) = &recipe.details else { return Ok(Some(Details::default())) };
    if !is_regular(paths, path) {
        return Err(InputsError::NoDetails { path: path.clone(), mode: paths.get(path).copied() });
    }
    let Some(text) = read.text(path) else { return Ok(None) };
    match details::parse(text) {
        Ok(details) => Ok(Some(details)),
        Err(source) => Err(InputsError::Details { path: path.clone(), source }),
    }
}

/// What the recipe says, and its file; `None`: the file is not read yet.
fn read_pairs(
    kind: Pairs,
    given: &BTreeMap<String, String>,
    file: Option<&GitPath>,
    paths: &BTreeMap<GitPath, Mode>,
    read: &mut Reading<'_>,
) -> Result<Option<BTreeMap<String, String>>, InputsError> {
    let Some(path) = file else { return Ok(Some(given.clone())) };
    if !is_regular(paths, path) {
        return Err(InputsError::NoPairs { kind, path: path.clone(), mode: paths.get(path).copied() });
    }
    let Some(text) = read.text(path) else { return Ok(None) };
    merge_pairs(kind, given, path, text).map(Some)
}

/// What was given, and what a file has besides.
///
/// # Errors
///
/// The file cannot be read, has a `$BUILD_…` variable, or another value for a name that was given.
pub fn merge_pairs(
    kind: Pairs,
    given: &BTreeMap<String, String>,
    path: &GitPath,
    text: &[u8],
) -> Result<BTreeMap<String, String>, InputsError> {
    let pairs = pairs::parse(path, text).map_err(|source| InputsError::Pairs { kind, path: path.clone(), source })?;
    let mut all = given.clone();
    for (name, pairs::Value { text, line }) in pairs {
        if has_build_variable(&text) {
            return Err(InputsError::BuildVariable { kind, path: path.clone(), name, line });
        }
        match all.get(&name) {
            Some(before) if *before != text => {
                return Err(InputsError::Disagree { kind, path: path.clone(), name, line });
            }
            _ => drop(all.insert(name, text)),
        }
    }
    Ok(all)
}

/// Whether a text has one of Concourse's `$BUILD_…` variables: in what an image is made of, a build number would make
/// every put another image, and check would not even know it.
pub fn has_build_variable(text: &str) -> bool {
    text.contains("$BUILD_") || text.contains("${BUILD_")
}

/// The blobs that are read, and those that are missed.
struct Reading<'a> {
    texts: &'a BTreeMap<GitPath, Vec<u8>>,
    missing: Vec<GitPath>,
}

impl<'a> Reading<'a> {
    fn text(&mut self, path: &GitPath) -> Option<&'a [u8]> {
        let text = self.texts.get(path);
        if text.is_none() {
            self.missing.push(path.clone());
        }
        text.map(Vec::as_slice)
    }
}

fn is_regular(paths: &BTreeMap<GitPath, Mode>, path: &GitPath) -> bool {
    matches!(paths.get(path), Some(Mode::File | Mode::Executable))
}

fn named_directories(recipe: &Recipe) -> impl Iterator<Item = (&String, &GitPath)> {
    recipe.contexts.iter().filter_map(|(name, context)| match context {
        NamedContext::Directory(directory) | NamedContext::Layout(directory) => Some((name, directory)),
        NamedContext::Image(_) | NamedContext::Git { .. } | NamedContext::Finished(_) => None,
    })
}

fn context_is_no_file(key: &str, context: &GitPath, paths: &BTreeMap<GitPath, Mode>) -> Result<(), InputsError> {
    let mut above = context.clone();
    while !above.as_bytes().is_empty() {
        if let Some(mode) = paths.get(&above) {
            return Err(InputsError::Context {
                key: key.to_owned(),
                context: context.clone(),
                path: above,
                mode: *mode,
            });
        }
        above = above.parent();
    }
    Ok(())
}

/// Where the Dockerfile is; `None`: it is a symlink that was not read.
fn find_dockerfile(
    recipe: &Recipe,
    paths: &BTreeMap<GitPath, Mode>,
    read: &mut Reading<'_>,
) -> Result<Option<GitPath>, InputsError> {
    let path = &recipe.dockerfile;
    match paths.get(path) {
        Some(Mode::File | Mode::Executable) => Ok(Some(path.clone())),
        Some(Mode::Symlink) => {
            let Some(target) = read.text(path) else { return Ok(None) };
            let leads_to = follow(&path.parent(), target).filter(|leads_to| is_regular(paths, leads_to));
            leads_to.map(Some).ok_or_else(|| InputsError::DockerfileSymlink {
                path: path.clone(),
                target: target.escape_ascii().to_string(),
            })
        }
        Some(Mode::Submodule) | None => Err(InputsError::NoDockerfile {
            path: path.clone(),
            elsewhere: paths.keys().filter(|found| found.parts().last() == Some(b"Dockerfile")).cloned().collect(),
        }),
    }
}

/// Where a symlink in a directory leads; `None` when that is outside of the repository.
fn follow(directory: &GitPath, target: &[u8]) -> Option<GitPath> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut parts: Vec<&[u8]> = directory.parts().collect();
    for part in target.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(GitPath::new(parts.join(&b'/')))
}

fn choose(
    recipe: &Recipe,
    dockerfile: &[u8],
    args: &BTreeMap<String, String>,
    ignore: Ignore,
) -> Result<(Choice, Option<Whole>), InputsError> {
    if let Some(paths) = &recipe.paths {
        return Ok((Choice::Paths(pathspecs("source.build.paths", paths)?), None));
    }
    Ok(match dockerfile::sources(dockerfile, args) {
        Sources::Patterns(sources) => (Choice::Sources { sources, whole: false, ignore }, None),
        Sources::Whole(whole) => (Choice::Sources { sources: Vec::new(), whole: true, ignore }, Some(whole)),
    })
}

fn pathspecs(key: &'static str, patterns: &[String]) -> Result<Vec<Pathspec>, InputsError> {
    let read =
        |text: &String| Pathspec::parse(text).map_err(|why| InputsError::Pathspec { key, pattern: text.clone(), why });
    patterns.iter().map(read).collect()
}

/// The counted paths. The attributes come last: which of them count depends on the others.
fn count(selector: &mut Selector, paths: &BTreeMap<GitPath, Mode>) -> BTreeMap<GitPath, Why> {
    for path in paths.keys().filter(|path| selector.counts_as_content(path).is_some()).cloned().collect::<Vec<_>>() {
        let mut directory = path.parent();
        while selector.directories.insert(directory.clone()) && !directory.as_bytes().is_empty() {
            directory = directory.parent();
        }
    }
    paths.keys().filter_map(|path| Some((path.clone(), selector.counts(path)?))).collect()
}
