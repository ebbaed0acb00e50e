//! The configuration files of a factory, as an operator would write them.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::layout::Layout;
use super::{Model, PROVIDER_KEY_ENV, Ports, Setup};

/// The model jobs ask for when they name none.
const MODEL: &str = "default";

pub(super) fn write(layout: &Layout, setup: &Setup, ports: Ports) {
    save(&layout.proxy_config, proxy(layout, setup, ports));
    save(&layout.daemon_config, daemon(layout, &layout.daemon_dir, &setup.orchestration, ports));
    save(&layout.worker_config, worker(layout, setup, ports, &layout.worker_dir, "test-worker"));
    for n in 0..setup.more_workers {
        let dir = layout.more_worker_dir(n);
        std::fs::create_dir_all(&dir).expect("a directory of a worker");
        save(&layout.more_worker_config(n), worker(layout, setup, ports, &dir, &more_name(n)));
    }
}

/// The configuration of one more worker, like the first but for `more`.
pub(super) fn more_worker(layout: &Layout, n: u32, more: &Table) -> PathBuf {
    let text = std::fs::read_to_string(&layout.worker_config).expect("the first worker's configuration");
    let mut file: Table = text.parse().expect("TOML");
    let dir = layout.more_worker_dir(n);
    std::fs::create_dir_all(&dir).expect("a directory of a worker");
    file.insert("work_dir".into(), self::text(&dir));
    file.insert("name".into(), more_name(n).into());
    file.extend(more.clone());
    let path = layout.more_worker_config(n);
    save(&path, file);
    path
}

/// The configuration of a daemon beside the first, kept below `twin`.
pub(super) fn second_daemon(layout: &Layout, twin: &Layout, data_dir: &Path, ports: Ports) -> PathBuf {
    save(&twin.daemon_config, daemon(layout, data_dir, &Table::new(), ports));
    twin.daemon_config.clone()
}

fn proxy(layout: &Layout, setup: &Setup, ports: Ports) -> Table {
    let (mut accounts, mut routes) = (Vec::new(), Table::new());
    let mut answers = |model: &str, account: Table| {
        routes.insert(model.to_owned(), vec![account["id"].clone()].into());
        accounts.push(Value::Table(account));
    };
    match &setup.model {
        Model::Recorded { path } => {
            let account = [("kind", "recorded".into()), ("id", "recorded".into()), ("path", text(path))];
            answers(MODEL, table(account));
        }
        Model::Server { base_url } => {
            answers(MODEL, server("scripted", base_url));
            setup.models_apart.iter().for_each(|model| answers(model, server(model, base_url)));
        }
        Model::Nobody => {}
    }
    let mut file = table([
        ("listen", address(ports.proxy)),
        ("data_dir", text(&layout.proxy_dir)),
        ("grant_key_file", text(&layout.daemon_dir.join("grant.pub"))),
    ]);
    if !accounts.is_empty() {
        file.insert("accounts".into(), accounts.into());
        file.insert("routes".into(), routes.into());
    }
    file
}

fn server(id: &str, base_url: &str) -> Table {
    table([
        ("kind", "openai-compatible".into()),
        ("id", id.into()),
        ("base_url", base_url.into()),
        ("key_env", PROVIDER_KEY_ENV.into()),
    ])
}

fn daemon(layout: &Layout, data_dir: &Path, more: &Table, ports: Ports) -> Table {
    let proxy_url = format!("http://127.0.0.1:{}", ports.proxy);
    let mut orchestration = table([("proxy_url", proxy_url.clone().into()), ("default_model", MODEL.into())]);
    orchestration.extend(more.clone());
    let proxy = table([("url", proxy_url.into()), ("admin_token_file", text(&layout.proxy_token))]);
    table([
        ("listen", address(ports.daemon)),
        ("data_dir", text(data_dir)),
        ("proxy", proxy.into()),
        ("orchestration", orchestration.into()),
    ])
}

fn more_name(n: u32) -> String {
    format!("test-worker-{n}")
}

fn worker(layout: &Layout, setup: &Setup, ports: Ports, work_dir: &Path, name: &str) -> Table {
    let mut file = table([
        ("daemon_url", format!("http://127.0.0.1:{}", ports.daemon).into()),
        ("worker_key_file", text(&layout.worker_key)),
        ("work_dir", text(work_dir)),
        ("name", name.into()),
        ("capacity", i64::from(setup.capacity).into()),
    ]);
    if let Some(bwrap) = &setup.bwrap {
        file.insert("sandbox".into(), table([("bwrap", text(bwrap))]).into());
    }
    file
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn text(path: &Path) -> Value {
    path.to_str().expect("a path in UTF-8").into()
}

fn address(port: u16) -> Value {
    format!("127.0.0.1:{port}").into()
}

fn save(path: &Path, file: Table) {
    std::fs::write(path, file.to_string()).expect("a configuration file");
}
