//! A container as Concourse makes them for its steps: by `runc`, with what a privileged and an unprivileged one may do.
//!
//! Its root is the image of the resource type, or this machine's with our programs in `/opt/resource`; nothing in it can
//! change either. It shares the network of the tests, so it reaches their servers.
//! Facts: Concourse 8.2, `worker/runtime/spec`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::buildkit_program;
use super::program::Program;
use super::server::run;
use super::temporary;

/// What every container may do.
const UNPRIVILEGED: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What a privileged one may do besides, as far as it matters here.
const PRIVILEGED: [&str; 8] = [
    "CAP_SYS_ADMIN",
    "CAP_NET_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_SYS_MODULE",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_MAC_ADMIN",
    "CAP_SYS_TIME",
];

/// Calls that only a privileged container may make, as far as an engine makes them. Everything else is allowed here.
const RESERVED: [&str; 10] =
    ["add_key", "bpf", "fsconfig", "fsmount", "fsopen", "keyctl", "request_key", "sethostname", "setns", "syslog"];

/// Calls that one with `fuse-only` may make too.
const FOR_FUSE: [&str; 6] = ["mount", "move_mount", "pivot_root", "umount", "umount2", "unshare"];

/// Whose the root of a container is that is not privileged, and what is its own. Nobody else has this number.
const OWNER: u32 = 4_294_967_294;

/// What a container may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// `privileged: true`.
    Full,
    /// `privileged: true` on a worker with `--containerd-privileged-mode=fuse-only`.
    FuseOnly,
    /// Nothing said.
    None,
}

/// What is mounted at `/scratch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scratch {
    /// A file system that can be part of an overlay, of this size: `64m`.
    Volume(&'static str),
    /// A file system on a disk of this size, as a worker has it.
    Disk(&'static str),
    /// A directory of the container's own root, which is an overlay itself.
    InTheRoot,
    /// Nothing: there is no such directory.
    Missing,
}

/// Which control groups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Those of the machine.
    OfTheMachine,
    /// Version 2, also where the machine has version 1 besides.
    Version2,
    /// None.
    Missing,
}

/// Whether the root can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// As Concourse makes it.
    Writable,
    /// Only `/tmp` and `/scratch` are.
    ReadOnly,
}

/// How a container is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it may do.
    pub privilege: Privilege,
    /// What is mounted at `/scratch`.
    pub scratch: Scratch,
    /// Which control groups are mounted.
    pub groups: Groups,
    /// Whether its root can be written to.
    pub root: Root,
    /// The root of an image that it runs, which is given to the container's own root; without it, this machine's root.
    pub image: Option<&'static Path>,
    /// Directories that are mounted, at these places. With an image they are given to the container's root.
    pub mounts: Vec<(PathBuf, &'static str)>,
    /// Programs in `/usr/local/bin`, by their names there.
    pub programs: BTreeMap<&'static str, PathBuf>,
    /// Programs of the machine that are hidden.
    pub hidden: Vec<&'static str>,
}

impl Default for Options {
    /// Privileged, with everything that the embedded engine needs.
    fn default() -> Self {
        Self {
            privilege: Privilege::Full,
            scratch: Scratch::Volume("2g"),
            groups: Groups::OfTheMachine,
            root: Root::Writable,
            image: None,
            mounts: Vec::new(),
            programs: BTreeMap::from([("buildkitd", buildkit_program("buildkitd"))]),
            hidden: Vec::new(),
        }
    }
}

/// A running container, removed when dropped.
pub struct Container {
    id: String,
    directory: TempDir,
}

impl Options {
    /// One of this image, with what the image has and no more.
    pub fn of_image(image: &'static Path, privilege: Privilege) -> Self {
        Self {
            privilege,
            scratch: Scratch::Disk("1g"),
            image: Some(image),
            // The first process waits by it.
            programs: BTreeMap::from([("busybox", PathBuf::from("/bin/busybox"))]),
            ..Self::default()
        }
    }
}

impl Container {
    /// Starts one; its first process only waits. `/tmp/build/put` is this directory of artifacts.
    #[track_caller]
    pub fn start(artifacts: &Path, options: &Options) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let id = format!("step-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let container = Self { id, directory: temporary() };
        for name in ["upper", "work", "rootfs", "scratch", "state"] {
            std::fs::create_dir(container.path(name)).expect("a directory can be made");
        }
        std::fs::write(container.path("masked"), "").expect("a file can be made");
        // With metacopy, another owner copies no content.
        let overlay = format!(
            "metacopy=on,lowerdir={},upperdir={},workdir={}",
            options.image.unwrap_or(Path::new("/")).display(),
            container.path("upper").display(),
            container.path("work").display()
        );
        mount(&["-t", "overlay", "-o", &overlay, "overlay"], &container.path("rootfs"));
        // An unprivileged container may not make what is mounted over.
        container.make_in_root("opt/resource");
        for name in options.programs.keys() {
            std::fs::write(container.path("rootfs/usr/local/bin").join(name), "").expect("a file can be made");
        }
        if options.scratch != Scratch::Missing {
            container.make_in_root("scratch");
        }
        match options.scratch {
            Scratch::Volume(size) => {
                mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=0777"), "scratch"], &container.path("scratch"));
            }
            Scratch::Disk(size) => make_disk(&container.path("disk"), size, &container.path("scratch")),
            Scratch::InTheRoot | Scratch::Missing => {}
        }
        if options.image.is_some() && options.privilege != Privilege::Full {
            let mounts = options.mounts.iter().map(|(source, _)| source.as_path());
            let own = [&container.path("rootfs"), &container.path("scratch"), artifacts];
            own.into_iter().chain(mounts).for_each(give);
        }
        let spec = container.spec(artifacts, options).to_string();
        std::fs::write(container.path("config.json"), spec).expect("the configuration can be written");
        let mut command = container.runc();
        command.args(["run", "--detach", "--bundle"]).arg(container.directory.path()).arg(&container.id);
        // Its first process would hold a pipe open, and `run` would wait for that.
        let log = std::fs::File::create(container.path("log")).expect("a file can be made");
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).status().expect("runc is there");
        let said = std::fs::read_to_string(container.path("log")).unwrap_or_default();
        assert!(status.success(), "the container does not start: {said}");
        container
    }

    /// `/opt/resource/out`, as Concourse runs it.
    pub fn put(&self) -> Program {
        self.put_with(&[])
    }

    /// The same on a worker with these variables: where its proxies are.
    pub fn put_with(&self, variables: &[&str]) -> Program {
        let mut command = self.runc();
        command.arg("exec").arg("--pid-file").arg(self.path("pid"));
        for variable in [PATH, HOME].iter().chain(variables) {
            command.args(["--env", variable]);
        }
        command.args([self.id.as_str(), "/opt/resource/out", "/tmp/build/put"]);
        Program::run_by(command)
    }

    /// Any program in it, with pipes that belong to nobody whom the container knows, as Concourse's do: they cannot be
    /// opened by a path. runc would make it pipes of its own.
    pub fn program(&self, words: &[&str]) -> Program {
        const OUTSIDE: &str = "exec \"$@\" 3<&0 4>&1 5>&2 </dev/null";
        const INSIDE: &str = "unset PWD SHLVL && exec \"$@\" <&3 >&4 2>&5 3<&- 4>&- 5>&-";
        let mut command = Command::new("sh");
        command.args(["-c", OUTSIDE, "sh", "runc", "--root"]).arg(self.path("state"));
        command.args(["exec", "--preserve-fds", "3", &self.id, "/bin/sh", "-c", INSIDE, "sh"]).args(words);
        Program::run_by(command)
    }

    /// The process of the program that was started last, as this side sees it.
    #[track_caller]
    pub fn process(&self) -> rustix::process::Pid {
        let text = std::fs::read_to_string(self.path("pid")).expect("a program was started");
        text.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id")
    }

    /// The process in it whose command line begins so.
    #[track_caller]
    pub fn process_of(&self, command: &str) -> rustix::process::Pid {
        let inside = self.inside();
        let found = inside.iter().find(|process| process.command.starts_with(command));
        found.and_then(|process| rustix::process::Pid::from_raw(process.id)).expect("it runs")
    }

    /// The command lines of what runs in it, besides its first process and what that waits for.
    pub fn processes(&self) -> Vec<String> {
        self.inside().into_iter().map(|process| process.command).filter(|command| command != WAITS).collect()
    }

    /// Everything of its PID namespace, and what descends from that.
    fn inside(&self) -> Vec<Process> {
        let namespace = |id: i32| std::fs::read_link(format!("/proc/{id}/ns/pid")).ok();
        let first = self.first_process();
        let (mut inside, mut rest): (Vec<_>, Vec<_>) =
            all_processes().into_iter().partition(|process| namespace(process.id) == namespace(first));
        let mut at = 0;
        while let Some(parent) = inside.get(at).map(|process| process.id) {
            let (children, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|process| process.parent == parent);
            inside.extend(children);
            rest = others;
            at += 1;
        }
        inside.retain(|process| process.id != first);
        inside
    }

    /// What is mounted in it.
    #[track_caller]
    pub fn mounts(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/mountinfo", self.first_process())).expect("it runs")
    }

    /// The control groups below its own.
    #[track_caller]
    pub fn groups(&self) -> Vec<PathBuf> {
        let path = format!("*{}/*", self.group());
        let found = run(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", &path]));
        found.lines().map(PathBuf::from).collect()
    }

    /// The control groups of engines inside that lie at the top, where those of every container lie.
    pub fn groups_at_the_top() -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let below =
            hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).flat_map(std::fs::read_dir).flatten().flatten();
        let name = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        below.filter(|entry| name(entry).len() == "git-image-".len() + 32).map(|entry| entry.path()).collect()
    }

    /// A directory of it, as this side sees it: `in_it("scratch")`.
    pub fn in_it(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.first_process())).join(path)
    }

    fn first_process(&self) -> i32 {
        let state = run(self.runc().args(["state", &self.id]));
        let state: Value = serde_json::from_str(&state).expect("runc prints JSON");
        state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("it has a process")
    }

    #[track_caller]
    fn make_in_root(&self, directory: &str) {
        std::fs::create_dir_all(self.path("rootfs").join(directory)).expect("a directory can be made");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.path("state"));
        command
    }

    /// The name of its control group: below that of all tests.
    fn group(&self) -> String {
        format!("/{}/{}", std::env::var("GIT_IMAGE_GROUP").unwrap_or_else(|_| "git-image".to_owned()), self.id)
    }

    fn spec(&self, artifacts: &Path, options: &Options) -> Value {
        let Options { privilege, scratch, groups, root, image, mounts: more, programs, hidden } = options;
        let bind = |from: &Path, to: &str, access: &str| json!({"type": "bind", "source": from, "destination": to, "options": ["rbind", access]});
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
            json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]}),
            json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"]}),
            bind(artifacts, "/tmp/build/put", "rw"),
        ];
        if image.is_none() {
            let programs = Program::path("out");
            mounts.push(bind(programs.parent().expect("a program is in a directory"), "/opt/resource", "ro"));
        }
        mounts.extend(more.iter().map(|(source, at)| bind(source, at, "rw")));
        if *root == Root::Writable {
            // What the machine has there is hidden: a socket of its own engine, for one.
            mounts.push(
                json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
            );
        }
        let access = if *privilege == Privilege::Full { "rw" } else { "ro" };
        if *privilege == Privilege::Full {
            mounts.push(
                json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", access]}),
            );
        } else {
            mounts.push(json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", access]}));
        }
        let unified = Path::new("/sys/fs/cgroup/unified");
        match groups {
            Groups::Missing => {}
            // An unprivileged one may not mount them.
            _ if *privilege != Privilege::Full => {}
            Groups::Version2 if unified.is_dir() => mounts.push(bind(unified, "/sys/fs/cgroup", "rw")),
            Groups::Version2 | Groups::OfTheMachine => mounts.push(json!({
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", access],
            })),
        }
        if let Scratch::Volume(_) | Scratch::Disk(_) = scratch {
            mounts.push(bind(&self.path("scratch"), "/scratch", "rw"));
        }
        mounts.extend(programs.iter().map(|(name, path)| bind(path, &format!("/usr/local/bin/{name}"), "ro")));
        mounts.extend(hidden.iter().map(|path| bind(&self.path("masked"), path, "ro")));

        let mut capabilities = UNPRIVILEGED.to_vec();
        match privilege {
            Privilege::Full => capabilities.extend(PRIVILEGED),
            Privilege::FuseOnly => capabilities.push("CAP_SYS_ADMIN"),
            Privilege::None => {}
        }
        let mut namespaces =
            vec![json!({"type": "pid"}), json!({"type": "ipc"}), json!({"type": "uts"}), json!({"type": "mount"})];
        let mut linux = json!({
            "cgroupsPath": self.group(),
            "resources": {"devices": [{"allow": *privilege == Privilege::Full, "access": "rwm"}]},
        });
        if *privilege != Privilege::Full {
            namespaces.push(json!({"type": "user"}));
            let map = json!([
                {"containerID": 0, "hostID": OWNER, "size": 1}, {"containerID": 1, "hostID": 1, "size": OWNER - 1},
            ]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
            linux["maskedPaths"] = json!(["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]);
            linux["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": refused_calls(*privilege)});
            linux["readonlyPaths"] = json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
        }
        linux["namespaces"] = namespaces.into();
        let sets = ["bounding", "effective", "permitted"].map(|set| (set.to_owned(), json!(capabilities)));
        json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs", "readonly": *root == Root::ReadOnly},
            "hostname": self.id,
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/sh", "-c", WAITS_SCRIPT],
                "env": [PATH, HOME],
                "cwd": "/",
                "capabilities": sets.into_iter().collect::<serde_json::Map<_, _>>(),
            },
            "mounts": mounts,
            "linux": linux,
        })
    }
}

/// What the kernel is told to refuse.
fn refused_calls(privilege: Privilege) -> Vec<Value> {
    let refuse = |names: &[&str], error: u32| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": error});
    let mut calls = vec![refuse(&RESERVED, 1)];
    if privilege == Privilege::None {
        // Without clone3, programs use clone, whose flags can be looked at: CLONE_NEWUSER, CLONE_NEWNS.
        calls.extend([refuse(&FOR_FUSE, 1), refuse(&["clone3"], 38)]);
        calls.extend([0x1000_0000_u64, 0x0002_0000].map(|flag| {
            let mut call = refuse(&["clone"], 1);
            call["args"] = json!([{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}]);
            call
        }));
    }
    calls
}

impl Drop for Container {
    fn drop(&mut self) {
        // It may never have started.
        let _ = self.runc().args(["delete", "--force", &self.id]).stderr(Stdio::null()).status();
        for name in ["rootfs", "scratch"] {
            let _ =
                Command::new("umount").args(["--lazy", "--quiet"]).arg(self.path(name)).stderr(Stdio::null()).status();
        }
    }
}

/// What is in the environment of every step.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const HOME: &str = "HOME=/root";

/// The first process reaps what lost its parent, as that of Concourse does.
const WAITS_SCRIPT: &str = "busybox sleep 100000 & wait";

/// What the first process waits for.
const WAITS: &str = "busybox sleep 100000";

/// Gives a tree to the root of a container that is not privileged.
#[track_caller]
fn give(tree: &Path) {
    let owner = format!("{OWNER}:{OWNER}");
    run(Command::new("chown").args(["--recursive", "--no-dereference", &owner]).arg(tree));
}

/// Mounts a new file system of this size, which is in this file.
#[track_caller]
fn make_disk(file: &Path, size: &str, at: &Path) {
    run(Command::new("truncate").arg(format!("--size={size}")).arg(file));
    run(Command::new("mkfs.ext4").args(["-q", "-E", "nodiscard,lazy_itable_init=1"]).arg(file));
    run(Command::new("mount").args(["-o", "loop"]).arg(file).arg(at));
}

#[track_caller]
fn mount(arguments: &[&str], at: &Path) {
    run(Command::new("mount").args(arguments).arg(at));
}

/// A process of this machine, as far as this namespace sees it.
pub struct Process {
    id: i32,
    parent: i32,
    /// Its command line.
    pub command: String,
}

/// Everything that runs, without what has ended and only waits to be reaped.
pub fn all_processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let read = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut after_name = stat.rsplit(") ").next()?.split(' ');
        let (state, parent) = (after_name.next()?, after_name.next()?.parse().ok()?);
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
        (state != "Z").then_some(Process { id, parent, command })
    };
    entries.filter_map(read).collect()
}
