//! A container of the image, as Concourse makes it for the programs of a resource type, run by `runc`.
//!
//! Fact: concourse, worker/runtime/spec: capabilities, namespaces, mounts and seccomp of privileged containers and others.
//! One thing differs: the network is that of the tests, for their servers are there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::program::Program;
use crate::support::server::run;
use crate::support::temporary;

/// Whose root an unprivileged container's root is.
const UNPRIVILEGED: u32 = 4_294_967_294;

/// The capabilities of an unprivileged container.
const CAPABILITIES: [&str; 14] = [
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

/// The capabilities of a privileged container, each at its number.
const ALL_CAPABILITIES: [&str; 38] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
];

/// Whether the pipeline's resource type says `privileged: true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It does.
    Privileged,
    /// It does not.
    Unprivileged,
}

/// A running container, ended when dropped.
pub struct Container {
    directory: TempDir,
    id: String,
}

impl Container {
    /// Starts one with a root filesystem of its own, an overlay of the image's, and with these directories at these places.
    /// They are given to the container's root, as Concourse does.
    #[track_caller]
    pub fn start(privilege: Privilege, mounts: &[(&Path, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("container-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = temporary();
        let own = directory.path().join("rootfs");
        let [above, work] = ["above", "work"].map(|name| directory.path().join(name));
        [&own, &above, &work].into_iter().for_each(|path| std::fs::create_dir(path).expect("a directory can be made"));
        // With metacopy, another owner copies no content.
        let layers =
            format!("lowerdir={},upperdir={},workdir={}", super::root().display(), above.display(), work.display());
        run(Command::new("mount").args(["-t", "overlay", "-o", &format!("{layers},metacopy=on"), "overlay"]).arg(&own));
        // The first process does nothing, as Concourse's own.
        std::fs::copy("/bin/busybox", own.join("tmp/sleep")).expect("`make setup` installs busybox-static");
        if privilege == Privilege::Unprivileged {
            [own.as_path()].into_iter().chain(mounts.iter().map(|(source, _)| *source)).for_each(give);
        }
        let specification = specification(privilege, directory.path(), &id, mounts);
        std::fs::write(directory.path().join("config.json"), specification.to_string()).expect("can be written");
        let container = Self { directory, id };
        let log = std::fs::File::create(container.directory.path().join("log")).expect("can be written");
        let status = container
            .runc()
            .args(["run", "--detach", "--bundle"])
            .arg(container.directory.path())
            .arg(&container.id)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("a handle can be cloned"))
            .stderr(log)
            .status()
            .expect("`make setup` installs runc");
        let said = || std::fs::read_to_string(container.directory.path().join("log")).unwrap_or_default();
        assert!(status.success(), "runc: {}", said());
        container
    }

    /// A program in it, with the environment that Concourse gives a check: PATH and HOME.
    ///
    /// Its descriptors are pipes that belong to nobody whom the container knows. runc would make it pipes of its own.
    pub fn program(&self, words: &[&str]) -> Program {
        const OUTSIDE: &str = "exec \"$@\" 3<&0 4>&1 5>&2 </dev/null";
        const INSIDE: &str = "unset PWD SHLVL && exec \"$@\" <&3 >&4 2>&5 3<&- 4>&- 5>&-";
        let mut command = Command::new("sh");
        command.args(["-c", OUTSIDE, "sh", "runc", "--root"]).arg(self.state());
        command
            .args(["exec", "--preserve-fds", "3", "--cwd", "/", &self.id, "/bin/sh", "-c", INSIDE, "sh"])
            .args(words);
        Program::run_by(command)
    }

    /// Its root filesystem, seen from outside.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.state());
        command
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("runc")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What is left ends with the namespaces of the tests.
        let _ = self.runc().args(["delete", "--force", &self.id]).status();
        let _ = Command::new("umount").arg("--lazy").arg(self.root()).status();
    }
}

/// A directory on a file system of its own, as a worker's disk is: on a tmpfs or overlay, engines behave otherwise.
#[track_caller]
pub fn disk(size: &str) -> TempDir {
    let directory = temporary();
    let file = directory.path().with_extension("disk");
    run(Command::new("truncate").arg(format!("--size={size}")).arg(&file));
    run(Command::new("mkfs.ext4").args(["-q", "-E", "nodiscard,lazy_itable_init=1"]).arg(&file));
    run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(directory.path()));
    // The mount keeps the file; both end with the namespaces of the tests.
    std::fs::remove_file(&file).expect("it was just made");
    directory
}

/// Gives a tree to the root of an unprivileged container.
fn give(tree: &Path) {
    let owner = format!("{UNPRIVILEGED}:{UNPRIVILEGED}");
    run(Command::new("chown").args(["--recursive", "--no-dereference", &owner]).arg(tree));
}

fn specification(privilege: Privilege, directory: &Path, id: &str, mounts: &[(&Path, &str)]) -> Value {
    let capabilities: Vec<&str> = match privilege {
        Privilege::Privileged => {
            let own = own_capabilities();
            (0..).zip(ALL_CAPABILITIES).filter(|(number, _)| own >> number & 1 == 1).map(|(_, name)| name).collect()
        }
        Privilege::Unprivileged => CAPABILITIES.to_vec(),
    };
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    let mut linux = json!({
        "cgroupsPath": format!("/{}/{id}", std::env::var("GIT_IMAGE_GROUP").unwrap_or_default()),
        "resources": {"devices": [{"allow": true, "access": "rwm"}]},
        "maskedPaths": [], "readonlyPaths": [],
    });
    if privilege == Privilege::Unprivileged {
        namespaces.extend(["user", "cgroup"]);
        let mapping = json!([
            {"containerID": 0, "hostID": UNPRIVILEGED, "size": 1},
            {"containerID": 1, "hostID": 1, "size": UNPRIVILEGED - 1},
        ]);
        linux["uidMappings"] = mapping.clone();
        linux["gidMappings"] = mapping;
        linux["seccomp"] = seccomp();
    }
    linux["namespaces"] = namespaces.into_iter().map(|kind| json!({"type": kind})).collect();
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": directory.join("rootfs"), "readonly": false},
        "hostname": id,
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/tmp/sleep", "100000"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "inheritable": capabilities,
            },
        },
        "mounts": all_mounts(privilege, mounts),
        "linux": linux,
    })
}

/// What every container has, and what this one has besides.
fn all_mounts(privilege: Privilege, mounts: &[(&Path, &str)]) -> Vec<Value> {
    let mount = |kind: &str, source: &Path, at: &str, options: &[&str]| json!({"type": kind, "source": source, "destination": at, "options": options});
    let new = |kind: &str, at: &str, options: &[&str]| mount(kind, Path::new(kind), at, options);
    let bound = |from: &Path, at: &str| mount("bind", from, at, &["bind"]);
    let access = match privilege {
        Privilege::Privileged => "rw",
        Privilege::Unprivileged => "ro",
    };
    let system = match privilege {
        Privilege::Privileged => new("sysfs", "/sys", &["nosuid", "noexec", "nodev"]),
        // A user namespace that shares the network of others cannot mount it anew.
        Privilege::Unprivileged => {
            mount("bind", Path::new("/sys"), "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
        }
    };
    let mut all = vec![
        new("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        new("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        new("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        new("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        new("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        system,
        new("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", access]),
        bound(Path::new("/etc/resolv.conf"), "/etc/resolv.conf"),
        bound(Path::new("/etc/hosts"), "/etc/hosts"),
    ];
    all.extend(mounts.iter().map(|(from, at)| bound(from, at)));
    all
}

/// What an unprivileged container may not ask of the kernel. Concourse lists what it may; the rest is refused in the same way.
fn seccomp() -> Value {
    let refused = [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "pivot_root",
        "move_mount",
        "open_tree",
        "fsopen",
        "fsmount",
        "fsconfig",
        "fspick",
        "mount_setattr",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "userfaultfd",
        "kexec_load",
        "init_module",
        "finit_module",
        "delete_module",
        "swapon",
        "swapoff",
    ];
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            // Any of the flags that make a namespace.
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                "args": [{"index": 0, "value": 0x1000_0000, "valueTwo": 0x1000_0000, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                "args": [{"index": 0, "value": 0x0002_0000, "valueTwo": 0x0002_0000, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    })
}

/// What this machine lets root have, a bit each: some lack CAP_SYS_RESOURCE.
#[track_caller]
fn own_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("it names its bounding set");
    u64::from_str_radix(bounds.trim(), 16).expect("a hexadecimal number")
}
