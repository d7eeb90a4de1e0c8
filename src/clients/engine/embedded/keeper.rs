//! The keeper: process 1 of the namespaces in which the embedded engine runs.
//!
//! It is this program, started anew by [`super::Embedded`] through [`crate::clients::process::Program::enclose`].
//! It prepares the namespace, starts the daemon, and removes what the daemon leaves. It ends when the daemon ends, when it is
//! told to, and when the pipe that it reads is closed, which the kernel does when the put is no more.
//! Everything that the daemon or its containers started ends with it, because it is process 1; what it mounted goes with
//! its mount namespace. There, and nowhere else, are the daemon's configuration, certificates and keys: in memory.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use rustix::system::{sethostname, uname};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

/// The only argument of the keeper. Concourse gives `out` a path, which this is not.
pub const ARGUMENT: &str = "--keep-engine";

/// The line that asks for an end after the work is done.
pub(super) const STOP: &[u8] = b"stop\n";

/// How long the daemon may take to end when it is asked to. It takes ten milliseconds, and for ever while it builds.
const GRACE: Duration = Duration::from_millis(1500);

/// How long what the daemon started may take to end after SIGKILL.
const LAST: Duration = Duration::from_secs(2);

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Where runc keeps what it knows of its containers; nobody can tell it another place.
const RUNC: &str = "/run/runc";

/// What the keeper is told first: one line of JSON. It is not in the arguments, because `files` may have keys.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// The directory with everything that the daemon writes. It comes and goes with the keeper.
    pub directory: PathBuf,
    /// Files that the daemon reads, by name; they lie in [`Order::secrets`].
    pub files: BTreeMap<String, String>,
    /// The name of the control group of everything that it runs.
    pub group: String,
    /// The daemon.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Order {
    /// The directory of [`Order::files`]: in memory, and only in the keeper's mount namespace.
    pub(super) fn secrets(directory: &Path) -> PathBuf {
        directory.join("files")
    }

    /// Where the daemon's temporary files go.
    pub(super) fn temporary(directory: &Path) -> PathBuf {
        directory.join("tmp")
    }
}

/// What the keeper says last, on stdout: one line of JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// It could not do what must be done before the daemon starts.
    Failed {
        /// What: "mount …".
        what: String,
        /// The system's number of the error.
        errno: Option<i32>,
        /// The system's words.
        why: String,
    },
    /// The daemon ended.
    Ended {
        /// How, as in `exit status: 1`.
        how: String,
    },
}

/// Keeps an engine until its end, and says how that was.
pub fn run(stdin: impl BufRead + Send + 'static) -> ExitCode {
    let report = match keep(stdin) {
        Ok(status) => Report::Ended { how: status.to_string() },
        Err(Fault { what, source }) => Report::Failed { what, errno: source.raw_os_error(), why: source.to_string() },
    };
    let text = serde_json::to_string(&report).unwrap_or_default();
    // Nobody reads it when the put is no more.
    let _ = writeln!(io::stdout(), "{text}");
    ExitCode::SUCCESS
}

struct Fault {
    what: String,
    source: io::Error,
}

fn fault(what: impl Into<String>) -> impl FnOnce(io::Error) -> Fault {
    move |source| Fault { what: what.into(), source }
}

fn keep(mut stdin: impl BufRead + Send + 'static) -> Result<ExitStatus, Fault> {
    let mut line = String::new();
    stdin.read_line(&mut line).map_err(fault("read the order"))?;
    let order: Order = serde_json::from_str(&line)
        .map_err(|error| Fault { what: "read the order".to_owned(), source: error.into() })?;
    let scratch = order.directory.parent().unwrap_or(Path::new("/")).display();
    let private = std::fs::DirBuilder::new().mode(0o700).create(&order.directory);
    private.map_err(fault(format!("make a directory in {scratch}")))?;
    let ended = prepare(&order).and_then(|()| {
        let daemon = start(&order)?;
        std::thread::spawn(move || obey(stdin, daemon));
        reap_until(daemon).map_err(fault("wait for the daemon"))
    });
    end_all();
    clean(&order);
    ended
}

/// Makes the mount namespace, and in it what the daemon needs.
fn prepare(order: &Order) -> Result<(), Fault> {
    #[expect(deprecated, reason = "its danger is with the flag FILES, which is not used")]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUTS);
    unshared.map_err(io::Error::from).map_err(fault("make namespaces"))?;
    // What runc does in every container: where it is not allowed, each RUN would fail, and nothing before.
    let named = sethostname(uname().nodename().to_bytes());
    named.map_err(io::Error::from).map_err(fault("set a host name, as each RUN does"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(io::Error::from).map_err(fault("keep mounts private"))?;
    let hidden = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_new("proc", Path::new("/proc"), hidden, "")?;
    let make = |path: &Path| std::fs::create_dir(path).map_err(fault(format!("make the directory {}", path.display())));
    make(&Order::temporary(&order.directory))?;
    let secrets = Order::secrets(&order.directory);
    make(&secrets)?;
    mount_new("tmpfs", &secrets, hidden, "mode=0700")?;
    for (name, text) in &order.files {
        let path = secrets.join(name);
        std::fs::write(&path, text).map_err(fault(format!("write {}", path.display())))?;
    }
    // What runc knows of containers is in memory too: after SIGKILL nobody would remove it. The root may be read-only.
    let runc = match std::fs::create_dir_all(RUNC) {
        Ok(()) => Path::new(RUNC),
        Err(_) => Path::new("/run"),
    };
    mount_new("tmpfs", runc, MountFlags::NOSUID | MountFlags::NODEV, "mode=0700")?;
    prepare_groups()
}

fn mount_new(kind: &str, at: &Path, flags: MountFlags, options: &str) -> Result<(), Fault> {
    let data = std::ffi::CString::new(options).map_err(|error| io::Error::other(error.to_string()));
    let mounted = data.and_then(|data| Ok(mount(kind, at, kind, flags, data.as_c_str())?));
    mounted.map_err(fault(format!("mount {kind} on {}", at.display())))
}

/// Mounts the control groups where the container has none that can be written to: runc needs them for every RUN.
fn prepare_groups() -> Result<(), Fault> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(fault(format!("read {path}")));
    if has_groups(&read("/proc/self/mountinfo")?) {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let root = Path::new(GROUPS);
    let known = read("/proc/self/cgroup")?;
    let hierarchies = hierarchies(&known);
    if hierarchies.is_empty() {
        return mount_new("cgroup2", root, flags, "");
    }
    mount_new("tmpfs", root, flags, "mode=0755")?;
    for (name, options) in hierarchies {
        let directory = root.join(name);
        std::fs::create_dir(&directory).map_err(fault(format!("make the directory {}", directory.display())))?;
        mount_new("cgroup", &directory, flags, &options)?;
    }
    Ok(())
}

/// Whether control groups are mounted, and can be written to.
fn has_groups(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| {
        let mut words = line.split(' ').skip(4);
        let (at, options) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next());
        // Version 1 has a directory for each hierarchy, version 2 is at the root itself.
        let is_ours = match kind {
            Some("cgroup") => Path::new(at).parent() == Some(Path::new(GROUPS)),
            Some("cgroup2") => at == GROUPS,
            _ => false,
        };
        is_ours && options.split(',').all(|option| option != "ro")
    })
}

/// The hierarchies of version 1, each with the options that mount it; none when there is only version 2.
fn hierarchies(groups: &str) -> Vec<(&str, String)> {
    let controllers = groups.lines().filter_map(|line| line.split(':').nth(1)).filter(|names| !names.is_empty());
    controllers
        .map(|names| match names.strip_prefix("name=") {
            Some(name) => (name, format!("none,{names}")),
            None => (names, names.to_owned()),
        })
        .collect()
}

/// Starts the daemon; what it says goes where the keeper's own words go.
fn start(order: &Order) -> Result<Pid, Fault> {
    #[expect(clippy::disallowed_methods, reason = "the keeper is a child that stands for others, and ends them itself")]
    let mut command = std::process::Command::new(&order.program);
    let daemon = command
        .args(&order.arguments)
        .env("TMPDIR", Order::temporary(&order.directory))
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()))
        .spawn();
    Ok(Pid::from_child(&daemon.map_err(fault(format!("start {}", order.program.display())))?))
}

/// Ends the daemon when the pipe says so, or is closed: then the put was stopped, or is no more, and nothing is waited for.
fn obey(mut stdin: impl BufRead, daemon: Pid) {
    let mut line = Vec::new();
    if stdin.read_until(b'\n', &mut line).is_ok() && line == STOP {
        let _ = kill_process(daemon, Signal::TERM);
        std::thread::sleep(GRACE);
    }
    // While it builds, the daemon would obey SIGTERM only when the build has ended.
    let _ = kill_process(daemon, Signal::KILL);
}

/// Reaps children, our own and those that lost their parent, until this one ends.
fn reap_until(daemon: Pid) -> io::Result<ExitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((child, status))) if child == daemon => {
                return Ok(std::os::unix::process::ExitStatusExt::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends every other process of the namespace, so that nobody writes or mounts any more. Our own end would do so too, but later.
fn end_all() {
    let since = Instant::now();
    loop {
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let id = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(id) = id.filter(|id| !id.is_init()) {
                let _ = kill_process(id, Signal::KILL);
            }
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        // No child at all: everything without a parent is ours, so nothing else is there.
        if wait(WaitOptions::NOHANG).is_err() || since.elapsed() > LAST {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Removes what the daemon wrote, and its control groups, which belong to no namespace.
fn clean(order: &Order) {
    // The last mount first: it may lie on another one.
    for point in mounts_below(&order.directory).into_iter().rev() {
        let _ = unmount(&point, UnmountFlags::DETACH);
    }
    remove_groups(&order.group);
    // Never through a mount: what is behind one may be anybody's. What is left is tried once more by the put, if it lives.
    if mounts_below(&order.directory).is_empty() {
        let _ = std::fs::remove_dir_all(&order.directory);
    }
}

/// What is mounted below a directory, in the order in which it was.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(directory)).collect()
}

/// Removes the control group of this name, and those within it, from every hierarchy.
pub(super) fn remove_groups(name: &str) {
    let hierarchies = std::fs::read_dir(GROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from(GROUPS)]) {
        remove_group(&hierarchy.join(name));
    }
}

/// Removes a control group and those within it. The files in them are not removed: they go with the group.
fn remove_group(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_are_there_when_one_kind_is_mounted_where_it_belongs_and_can_be_written_to() {
        for (mountinfo, there) in [
            ("30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw", true),
            ("30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw", false),
            ("30 23 0:26 /a /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory", true),
            ("30 23 0:26 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory", false),
            ("30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", false),
            ("30 23 0:26 / /elsewhere/memory rw - cgroup cgroup rw,memory", false),
            ("30 23 0:26 / /sys/fs/cgroup rw - tmpfs cgroup rw", false),
            ("", false),
        ] {
            assert_eq!(has_groups(mountinfo), there, "{mountinfo}");
        }
    }

    #[test]
    fn a_hierarchy_of_version_1_is_mounted_by_its_controllers_or_its_name() {
        let groups = "9:name=systemd:/\n3:cpu,cpuacct:/a:b\n0::/\n";
        let wanted = [("systemd", "none,name=systemd".to_owned()), ("cpu,cpuacct", "cpu,cpuacct".to_owned())];
        assert_eq!(hierarchies(groups), wanted);
        assert_eq!(hierarchies("0::/a\n"), []);
    }
}
