//! The daemon as a process: first start, what ends it and how, and what it leaves behind.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::disallowed_methods, reason = "the process under test is started here")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use df_contract::api::{KeyView, Submitted};
use df_contract::{ErrorCode, Role};
use serde_json::{Value, json};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_devfactoryd"));
    command.args(args).env_clear();
    command
}

fn run(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

#[track_caller]
fn ended(output: &Output, code: ErrorCode, status: i32) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{told}");
    assert!(told.contains(&format!("({})", code.code())), "{told}");
}

/// A data directory with all that a start needs.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("proxy-admin.token"), "token\n").unwrap();
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A running daemon; killed when dropped.
struct Daemon {
    child: Child,
    address: String,
}

impl Daemon {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let args = [&["serve", "--data-dir", text(dir), "--listen", "127.0.0.1:0"], more].concat();
        let mut child = program(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert_eq!(line["process"], "devfactoryd");
            (line["message"] == "listening").then(|| line["address"].as_str().unwrap().to_owned())
        });
        // The pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("the daemon listens") }
    }

    fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }

    fn stdout(&mut self) -> String {
        std::io::read_to_string(self.child.stdout.take().unwrap()).unwrap()
    }

    async fn get(&self, key: &str, path: &str) -> (u16, Value) {
        answered(client().get(format!("http://{}{path}", self.address)).bearer_auth(key)).await
    }

    async fn submit(&self, key: &str) -> Submitted {
        let spec = json!({"title": "t", "description": "d"});
        let url = format!("http://{}/v1/jobs", self.address);
        let (status, body) = answered(client().post(url).bearer_auth(key).json(&spec)).await;
        assert_eq!(status, 201, "{body}");
        serde_json::from_value(body).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn answered(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_first_start_tells_the_admin_key_once() {
    let dir = data_dir();
    let mut daemon = Daemon::start(dir.path(), &[]);
    assert_eq!(daemon.address, read(&dir.path().join("daemon.addr")));
    assert_eq!(daemon.stop(), Some(0));
    let told = daemon.stdout();
    let key = told.strip_prefix("admin key: ").expect("the admin key").trim().to_owned();
    for secret in ["grant.key", "lease.key"] {
        assert_eq!(mode(&dir.path().join(secret)), 0o600, "{secret}");
    }
    let mut again = Daemon::start(dir.path(), &[]);
    assert_eq!(again.get(&key, "/v1/keys").await.0, 200);
    assert_eq!(again.stop(), Some(0));
    assert_eq!(again.stdout(), "", "it is not told again");
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(&key[4..]), "the key is kept nowhere");
    }
}

#[tokio::test]
async fn key_files_are_kept_and_mended() {
    let dir = data_dir();
    let (admin, worker) = (dir.path().join("admin.key"), dir.path().join("worker.key"));
    let files = ["--admin-key-file", text(&admin), "--worker-key-file", text(&worker)];
    let mut daemon = Daemon::start(dir.path(), &files);
    let first = read(&admin);
    assert_eq!((mode(&admin), mode(&worker)), (0o600, 0o600));
    daemon.stop();
    assert_eq!(daemon.stdout(), "", "a key in a file is not printed as well");

    let mut daemon = Daemon::start(dir.path(), &files);
    assert_eq!(read(&admin), first, "a live key stays");
    daemon.stop();
    // As after a crash between the file and the store.
    std::fs::write(&worker, format!("dfk_{}", "0".repeat(64))).unwrap();
    let daemon = Daemon::start(dir.path(), &files);
    let (status, keys) = daemon.get(&first, "/v1/keys").await;
    assert_eq!(status, 200, "{keys}");
    let keys: Vec<KeyView> = serde_json::from_value(keys).unwrap();
    assert_eq!(keys.iter().filter(|k| k.roles.contains(&Role::Worker)).count(), 2);
    let url = format!("http://{}/v1/worker/sessions", daemon.address);
    let open = client().post(url).bearer_auth(read(&worker)).json(&json!({"name": "w", "capacity": 1}));
    let (status, opened) = answered(open).await;
    assert_eq!((status, &opened["class"]), (201, &json!("trusted")));
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = data_dir();
    let admin = dir.path().join("admin.key");
    let files = ["--admin-key-file", text(&admin)];
    let mut daemon = Daemon::start(dir.path(), &files);
    let key = read(&admin);
    let job = daemon.submit(&key).await.id;
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let daemon = Daemon::start(dir.path(), &files);
    let (status, view) = daemon.get(&key, &format!("/v1/jobs/{job}")).await;
    assert_eq!((status, &view["summary"]["state"]), (200, &json!("GOVERNANCE_ANALYSIS")));

    let export = run(&["audit-export", "--data-dir", text(dir.path())]);
    assert!(export.status.success(), "beside a running daemon");
    let lines: Vec<Value> =
        String::from_utf8(export.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|l| l["line"].as_str().unwrap()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"record"), Some(&"current")), "{kinds:?}");
}

#[test]
fn a_second_daemon_ends_with_a_code() {
    let (dir, other) = (data_dir(), data_dir());
    let daemon = Daemon::start(dir.path(), &[]);
    let same_data = run(&["serve", "--data-dir", text(dir.path()), "--listen", "127.0.0.1:0"]);
    ended(&same_data, ErrorCode::StoreLocked, 75);
    let same_port = run(&["serve", "--data-dir", text(other.path()), "--listen", &daemon.address]);
    ended(&same_port, ErrorCode::PortInUse, 69);
    assert!(same_port.stdout.is_empty(), "a start that failed spends no admin key");
}

#[test]
fn a_bad_configuration_ends_with_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daemon.toml");
    for config in ["lisen = \"x\"", "listen = 5", "log = \"a=b=c\"", "listen = \"nowhere\""] {
        std::fs::write(&file, config).unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("proxy-admin.token"), "t").unwrap();
        let output = run(&["serve", "--config", text(&file), "--data-dir", text(&data)]);
        ended(&output, ErrorCode::ConfigInvalid, 78);
    }
    let missing = dir.path().join("nothing.toml");
    ended(&run(&["serve", "--config", text(&missing)]), ErrorCode::ConfigInvalid, 78);
    let empty = dir.path().join("empty");
    ended(
        &run(&["serve", "--data-dir", text(&empty), "--listen", "127.0.0.1:0"]),
        ErrorCode::ConfigInvalid,
        78,
    );
}

#[test]
fn init_makes_the_secrets_and_no_key_that_nobody_sees() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made");
    let output = run(&["init", "--data-dir", text(&data)]);
    assert!(output.status.success() && output.stdout.is_empty());
    let public = read(&data.join("grant.pub"));
    assert_eq!((public.len(), mode(&data)), (64, 0o700));
    assert!(run(&["init", "--data-dir", text(&data)]).status.success());
    assert_eq!(read(&data.join("grant.pub")), public);
}

#[test]
fn config_show_says_where_values_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daemon.toml");
    std::fs::write(&file, "[orchestration]\ndefault_model = \"m\"\n").unwrap();
    let output = run(&["config", "show", "--config", text(&file), "--listen", "127.0.0.1:7"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    for line in [
        "orchestration.default_model = \"m\"  # file",
        "listen = \"127.0.0.1:7\"  # argument",
        "log = \"info\"  # default",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line} in\n{shown}");
    }
}
