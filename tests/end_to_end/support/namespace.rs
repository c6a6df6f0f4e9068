//! Tests in a network namespace of their own: any port is free there, and routes may be taken away.

use std::process::Command;

/// Set in the process that runs in the namespace.
const INSIDE: &str = "FANWIRE_IN_NAMESPACE";

/// SIOCSIFFLAGS with IFF_UP and IFF_RUNNING: a new namespace has the device, but does not use it.
const LOOPBACK_UP: &str = "import socket, fcntl, struct; \
    fcntl.ioctl(socket.socket(), 0x8914, struct.pack(\"16sh14x\", b\"lo\", 0x41))";

/// Whether these programs are here; aloud if one is not, and a failure where `CI` is set.
pub fn has_programs(names: &[&str]) -> bool {
    let missing =
        |name: &&&str| Command::new("which").arg(name).output().is_ok_and(|output| !output.status.success());
    let Some(name) = names.iter().find(missing) else { return true };
    assert!(std::env::var_os("CI").is_none(), "{name} is needed here");
    eprintln!("SKIPPED: no {name} here");
    false
}

/// Whether this is the process in the namespace. If not, the test of this name is run there, and has passed.
///
/// Where the machine makes no namespaces it is skipped aloud, and fails if `CI` is set.
pub fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = ["--map-root-user", "--net"];
    let probe = Command::new("unshare").args(unshare).arg("true").output().expect("unshare is here");
    if !probe.status.success() {
        assert!(std::env::var_os("CI").is_none(), "no network namespaces here: {probe:?}");
        eprintln!("SKIPPED: no network namespaces here");
        return false;
    }
    let script = format!("python3 -c '{LOOPBACK_UP}' && exec \"$0\" --exact --nocapture \"$1\"");
    let mut inside = Command::new("unshare");
    inside.args(unshare).args(["sh", "-c", &script]);
    inside.arg(std::env::current_exe().expect("Linux knows it")).arg(test).env(INSIDE, "1");
    let output = inside.output().expect("it was there just now");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    println!("{text}");
    false
}

/// Nothing goes to this address of the loopback device any more, and nobody is told.
pub fn drop_packets_to(address: &str) {
    let arguments = ["route", "add", "blackhole", &format!("{address}/32"), "table", "local"];
    let status = Command::new("ip").args(arguments).status().expect("ip is installed: apt install iproute2");
    assert!(status.success(), "{address} stays");
}
