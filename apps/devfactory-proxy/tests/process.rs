//! The process: what it prints, what it refuses, what a `kill -9` leaves behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up must fail")]
#![expect(
    clippy::disallowed_methods,
    reason = "the test is the outside: it writes configurations and signs grants for now"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use df_contract::api::UsagePage;
use df_contract::grant::BudgetCap;
use df_contract::{AttemptId, DurationMs, ErrorCode, Grant, GrantClaims, JobId, Timestamp, Tokens};
use ed25519_dalek::SigningKey;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

const KEY_TEXT: &str = "sk-process-do-not-show-42";
const BODY: &str = r#"{"model":"m","max_tokens":33,"messages":[{"role":"user","content":"hello"}]}"#;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_devfactory-proxy"));
    command.env("TEST_PROXY_KEY", KEY_TEXT).env("RUST_BACKTRACE", "0");
    command
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn config(dir: &Path, listen: &str, upstream: &str) -> PathBuf {
    let public = hex::encode(signing_key().verifying_key().to_bytes());
    let path = dir.join("proxy.toml");
    let text = format!(
        "listen = '{listen}'\ndata_dir = 'data'\ngrant_key = '{public}'\nlog = 'trace'\n
         [[accounts]]\nid = 'a'\nkind = 'openai-compatible'\nbase_url = 'http://{upstream}/v1'\nkey_env = 'TEST_PROXY_KEY'\n
         [routes]\n'*' = ['a']\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start(config: &Path, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    program().arg("--config").arg(config).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Waits for `proxy.addr` to name an address that answers.
async fn address(dir: &Path) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    loop {
        if let Ok(text) = std::fs::read_to_string(dir.join("data/proxy.addr")) {
            let address = text.trim().to_owned();
            if client.get(format!("http://{address}/healthz")).send().await.is_ok_and(|r| r.status() == 200) {
                return address;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn grant() -> String {
    let now = Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
    let cap = BudgetCap { account: "job".into(), version: 1, nano_usd: None, tokens: Some(Tokens(1_000)) };
    let claims = GrantClaims {
        tenant: "acme".parse().unwrap(),
        job: JobId::mint(now, [1; 10]),
        task: "api".parse().unwrap(),
        attempt: AttemptId::mint(now, [2; 10]),
        epoch: 1,
        caps: vec![cap],
        models: vec!["m".into()],
        plan: None,
        issued_at: now,
        expires_at: now.plus(DurationMs(60_000)),
    };
    Grant::sign(&claims, &signing_key()).unwrap().expose().to_owned()
}

fn refused(output: &Output, code: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    let status = ErrorCode::parse(code).unwrap().exit_status();
    assert_eq!(output.status.code(), Some(status.into()), "{text}");
    assert!(text.contains(&format!("({code})")), "{text}");
    assert!(!text.contains(KEY_TEXT));
}

#[tokio::test]
async fn a_killed_process_charges_what_it_held_when_it_starts_again() {
    // The reqwest of this test speaks no TLS, but its builder wants a provider.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    // A provider that takes the request and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = config(dir.path(), "127.0.0.1:0", &silent.local_addr().unwrap().to_string());
    let log = dir.path().join("stderr.log");
    let mut first = start(&file, &log);
    let at = address(dir.path()).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let token = grant();
    let call = client.post(format!("http://{at}/v1/chat/completions")).bearer_auth(&token).body(BODY).send();
    let call = tokio::spawn(call);
    let (mut upstream, _) = silent.accept().await.unwrap();
    assert!(upstream.read(&mut [0; 64]).await.unwrap() > 0, "the request is on its way");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(call.await.unwrap().is_err());

    std::fs::remove_file(dir.path().join("data/proxy.addr")).unwrap();
    let mut second = start(&file, &log);
    let at = address(dir.path()).await;
    let admin = std::fs::read_to_string(dir.path().join("data/admin.token")).unwrap();
    let usage =
        client.get(format!("http://{at}/admin/v1/usage")).bearer_auth(admin.trim()).send().await.unwrap();
    let page: UsagePage = serde_json::from_slice(&usage.bytes().await.unwrap()).unwrap();
    assert_eq!(page.rows.len(), 1);
    let row = &page.rows[0];
    assert!(row.estimated);
    assert_eq!((row.input_tokens, row.output_tokens), (Tokens(BODY.len().div_ceil(4) as u64), Tokens(33)));

    let stopped = Command::new("kill").args(["-TERM", &second.id().to_string()]).status().unwrap();
    assert!(stopped.success() && second.wait().unwrap().success());
    assert!(!dir.path().join("data/proxy.addr").exists());
    for text in [KEY_TEXT, &token, admin.trim()] {
        for file in ["stderr.log", "data/journal/00000001.seg"] {
            let bytes = std::fs::read(dir.path().join(file)).unwrap();
            assert!(!bytes.windows(text.len()).any(|w| w == text.as_bytes()), "{file} shows a secret");
        }
    }
    let lines = std::fs::read_to_string(&log).unwrap();
    assert!(
        lines
            .lines()
            .all(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["process"] == "devfactory-proxy")
    );
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_from_the_command_line() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), "127.0.0.1:0", "127.0.0.1:9");
    let ask = |arguments: &[&str]| {
        let output = program().arg("--config").arg(&file).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout.clone()).unwrap(), output)
    };
    refused(&ask(&["keys", "list"]).2, "upstream_unavailable");
    let mut running = start(&file, &dir.path().join("log"));
    let at = address(dir.path()).await;
    let wish = [
        "keys", "add", "--name", "me", "--tenant", "acme", "--model", "m", "--usd", "1.5", "--period", "day",
    ];
    let (made, answer, _) = ask(&wish);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert!(made && answer["key"]["nano_usd"] == 1_500_000_000, "{answer}");
    let (id, token) = (answer["key"]["id"].as_str().unwrap(), answer["token"].as_str().unwrap());
    let models = || {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("http://{at}/v1/models")).bearer_auth(token).send()
    };
    assert_eq!(models().await.unwrap().status(), 200);
    let (_, listed, _) = ask(&["keys", "list"]);
    assert!(listed.contains(id) && !listed.contains(token), "{listed}");
    assert!(ask(&["keys", "revoke", id]).0);
    assert_eq!(models().await.unwrap().status(), 401);
    refused(&ask(&["keys", "revoke", "nobody"]).2, "not_found");
    assert_eq!(ask(&["usage"]).1, "");
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn what_cannot_start_says_why_with_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let run = |file: &Path, check: bool| {
        program().arg("--config").arg(file).args(check.then_some("--check")).output().unwrap()
    };
    let file = config(dir.path(), "127.0.0.1:0", "127.0.0.1:9");
    let checked = run(&file, true);
    assert!(checked.status.success(), "{checked:?}");
    assert!(!dir.path().join("data").exists(), "a check writes nothing");

    let wrong = dir.path().join("wrong.toml");
    std::fs::write(&wrong, "listen = 7\n").unwrap();
    refused(&run(&wrong, false), "config_invalid");
    refused(&run(&dir.path().join("absent.toml"), false), "config_invalid");
    refused(
        &program().env_remove("TEST_PROXY_KEY").arg("--config").arg(&file).output().unwrap(),
        "config_invalid",
    );
}

#[tokio::test]
async fn a_taken_port_and_a_taken_directory_are_refused() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = config(dir.path(), "127.0.0.1:0", "127.0.0.1:9");
    let mut running = start(&file, &dir.path().join("log"));
    let at = address(dir.path()).await;
    refused(&program().arg("--config").arg(&file).output().unwrap(), "store_locked");
    let same_port = config(other.path(), &at, "127.0.0.1:9");
    refused(&program().arg("--config").arg(&same_port).output().unwrap(), "port_in_use");
    running.kill().unwrap();
    running.wait().unwrap();
}
