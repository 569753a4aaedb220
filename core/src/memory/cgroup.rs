//! What the cgroups of the process may take, and take: version 2, and the memory controller of
//! version 1 (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

use super::Reading;

/// From here on version 1 means "no limit", by a number that depends on the size of a page.
const NO_LIMIT: u64 = 1 << 60;

/// Groups above the process's own that are looked at.
const ABOVE_MAX: usize = 32;

/// The groups that the process is in, as directories, its own first.
#[derive(Debug, Default)]
pub(super) struct Cgroups(Vec<Group>);

#[derive(Debug, PartialEq, Eq)]
struct Group {
    dir: PathBuf,
    files: &'static Files,
}

/// How a version calls things.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: pages of files that nobody needs now. The kernel takes them back before it
    /// ends anybody.
    idle: &'static str,
}

const VERSION_1: &Files = &Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    idle: "total_inactive_file ",
};
const VERSION_2: &Files =
    &Files { limit: "memory.max", used: "memory.current", idle: "inactive_file " };

impl Cgroups {
    /// Those of this process that have a limit now.
    pub(super) fn of_this_process() -> Self {
        let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
        let mut groups = find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        groups.retain(|group| group.limit().is_some());
        Self(groups)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn readings(&self) -> impl Iterator<Item = Reading> {
        self.0.iter().filter_map(Group::reading)
    }
}

impl Group {
    fn limit(&self) -> Option<u64> {
        // `max` is no number.
        let text = fs::read_to_string(self.dir.join(self.files.limit)).ok()?;
        text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
    }

    fn reading(&self) -> Option<Reading> {
        let limit = self.limit()?;
        let used = fs::read_to_string(self.dir.join(self.files.used)).ok()?;
        let used: u64 = used.trim().parse().ok()?;
        let stat = fs::read_to_string(self.dir.join("memory.stat")).unwrap_or_default();
        let idle = stat.lines().find_map(|line| line.strip_prefix(self.files.idle)?.parse().ok());
        Some(Reading { used: used.saturating_sub(idle.unwrap_or(0)), limit })
    }
}

/// The process's groups, by `/proc/self/cgroup`, below what `/proc/self/mountinfo` says is mounted.
fn find(cgroup: &str, mountinfo: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let is_memory = controllers.split(',').any(|each| each == "memory");
        let (kind, files) = match number {
            "0" => ("cgroup2", VERSION_2),
            _ if is_memory => ("cgroup", VERSION_1),
            _ => continue,
        };
        let Some((root, mount)) = mounted(mountinfo, kind) else { continue };
        // A container sees its own group mounted, and may be told a path from outside of it.
        let below = Path::new(path).strip_prefix(root).unwrap_or_else(|_| Path::new(""));
        // Without the slash at the end that joining nothing adds.
        let own: PathBuf = Path::new(mount).join(below).components().collect();
        let above = own.ancestors().take_while(|dir| dir.starts_with(mount)).take(ABOVE_MAX);
        groups.extend(above.map(|dir| Group { dir: dir.to_owned(), files }));
    }
    groups
}

/// What part of the hierarchy is mounted, and where (`proc_pid_mountinfo(5)`).
fn mounted<'a>(mountinfo: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    mountinfo.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let is_kind = system.next() == Some(kind);
        let options = system.nth(1).unwrap_or_default();
        let has_memory = kind == "cgroup2" || options.split(',').any(|each| each == "memory");
        let mut mount = mount.split(' ').skip(3);
        let found = mount.next().zip(mount.next());
        found.filter(|_| is_kind && has_memory)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
36 31 0:33 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
";

    fn dirs(groups: &[Group]) -> Vec<(&str, &str)> {
        groups.iter().map(|each| (each.dir.to_str().unwrap(), each.files.limit)).collect()
    }

    #[test]
    fn a_group_and_all_above_it_count() {
        let found =
            find("0::/a.slice/b.service\n", "31 24 0:26 / /sys/fs/cgroup rw - cgroup2 x rw");
        let limit = "memory.max";
        let expected = [
            ("/sys/fs/cgroup/a.slice/b.service", limit),
            ("/sys/fs/cgroup/a.slice", limit),
            ("/sys/fs/cgroup", limit),
        ];
        assert_eq!(dirs(&found), expected);
    }

    #[test]
    fn of_version_1_the_memory_controller_counts() {
        let found = find("3:cpu:/x\n4:memory:/y\n0::/\n", HYBRID);
        let expected = [
            ("/sys/fs/cgroup/memory/y", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup/unified", "memory.max"),
        ];
        assert_eq!(dirs(&found), expected);
    }

    #[test]
    fn a_container_sees_its_own_group_only() {
        let mounts = "36 31 0:33 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let found = find("4:memory:/docker/abc/inner", mounts);
        assert_eq!(found[0].dir, Path::new("/sys/fs/cgroup/memory/inner"));
        // Of another's name space.
        let found = find("4:memory:/elsewhere", mounts);
        assert_eq!(found[0].dir, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn nothing_mounted_or_nonsense_is_no_group() {
        for (cgroup, mounts) in
            [("0::/a", ""), ("", HYBRID), ("x\n0:\n::", HYBRID), ("0::/", "a - b")]
        {
            assert_eq!(find(cgroup, mounts), [], "{cgroup:?} {mounts:?}");
        }
    }

    #[test]
    fn what_the_kernel_would_take_back_is_not_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let group = Group { dir: dir.path().into(), files: VERSION_2 };
        assert_eq!(group.reading(), None);
        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        assert_eq!(group.reading(), Some(Reading { used: 900, limit: 1000 }));
        write("memory.stat", "anon 1\nfile 7\ninactive_file 300\nactive_file 2\n");
        assert_eq!(group.reading(), Some(Reading { used: 600, limit: 1000 }));
        for unlimited in ["max\n", "9223372036854771712\n"] {
            write("memory.max", unlimited);
            assert_eq!(group.limit(), None, "{unlimited}");
        }
    }
}
