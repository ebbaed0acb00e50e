//! One server of its own per test, and clients for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use df_contract::api::{JobView, KeyCreate, KeyCreated};
use df_contract::{Digest, JobId, Problem, Role, Timestamp, WorkerClass};
use df_gateway::{Gateway, mint_key};
use df_orchestration::grants::GrantSigner;
use df_orchestration::lease_token::LeaseTokens;
use df_orchestration::proxy::ProxyClient;
use df_orchestration::{Env, OperatorLimits, OrchestrationConfig, Orchestrator, Parts, default_bundle};
use df_store::{BlobStore, Store};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The command of the hidden check in [`spec`]: no answer may ever hold it.
pub(crate) const HIDDEN_COMMAND: &str = "python3 .devfactory-hidden/the-secret-check.py --seed 4711";
pub(crate) const HIDDEN_CONTENT: &[u8] = b"assert shorten(expand('the secret input')) == 'the secret input'";

pub(crate) struct World {
    pub(crate) orchestrator: Orchestrator,
    pub(crate) admin: Client,
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) blobs: BlobStore,
    _stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        // Fails only when another test was first, with the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_800_000_000_000));
        let orchestrator = orchestrator(env(&clock));
        let blobs = BlobStore::open(dir.path()).unwrap();
        let (stopper, stop) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(df_gateway::serve(listener, Gateway::new(orchestrator.clone(), blobs.clone(), stop)));
        let admin = KeyCreate {
            identity: "root".to_owned(),
            roles: [Role::Admin].into(),
            tenant: None,
            class: None,
            expires_at: None,
        };
        let minted = mint_key(orchestrator.env(), admin, &"acme".parse().unwrap()).unwrap();
        orchestrator.store().key_insert(minted.row).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let admin = Client { http, base, token: minted.secret };
        Self { orchestrator, admin, clock, blobs, _stop: stopper, _dir: dir }
    }

    /// A new key of the tenant `acme`.
    pub(crate) async fn key(&self, identity: &str, roles: &[Role]) -> Client {
        self.key_in("acme", identity, roles).await
    }

    pub(crate) async fn key_in(&self, tenant: &str, identity: &str, roles: &[Role]) -> Client {
        self.admin.with(&self.created(tenant, identity, roles).await.secret)
    }

    pub(crate) async fn created(&self, tenant: &str, identity: &str, roles: &[Role]) -> KeyCreated {
        let class = roles.contains(&Role::Worker).then_some(WorkerClass::Trusted);
        let wanted = KeyCreate {
            identity: identity.to_owned(),
            roles: roles.iter().copied().collect(),
            tenant: Some(tenant.parse().unwrap()),
            class,
            expires_at: None,
        };
        self.admin.post("/v1/keys", &wanted).await.ok()
    }
}

fn orchestrator(env: Env) -> Orchestrator {
    Orchestrator::new(Parts {
        store: Store::memory().unwrap(),
        policy: default_bundle().unwrap(),
        limits: OperatorLimits::default(),
        config: OrchestrationConfig::default(),
        env,
        grants: GrantSigner::new([1; 32]),
        tokens: LeaseTokens::new([2; 32]),
        // Nobody listens there: nothing in these tests needs the proxy.
        proxy: ProxyClient::new("http://127.0.0.1:1", "token".to_owned()).unwrap(),
    })
}

/// A clock that moves by a millisecond whenever it is read, and randomness that never repeats.
fn env(clock: &Arc<AtomicU64>) -> Env {
    let (clock, count) = (Arc::clone(clock), AtomicU64::new(1));
    Env::new(
        move || Timestamp(clock.fetch_add(1, Ordering::SeqCst)),
        move |bytes| {
            let seed = Digest::of(&count.fetch_add(1, Ordering::SeqCst).to_le_bytes());
            let seed = seed.as_str().as_bytes();
            bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = seed[i % seed.len()]);
        },
    )
}

/// Somebody with a token.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    pub(crate) token: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok<T: DeserializeOwned>(&self) -> T {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    #[track_caller]
    pub(crate) fn done(&self) {
        assert_eq!(self.status, 204, "{}", self.text());
    }

    /// Refused with `code`, as a problem document whose parts agree.
    #[track_caller]
    pub(crate) fn refused(&self, code: &str) -> Problem {
        let problem: Problem = serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{} is no problem ({e}): {}", self.status, self.text()));
        assert_eq!(problem.code.code(), code, "{problem}");
        assert_eq!(problem.status, self.status, "{problem}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert!(self.headers.contains_key("x-request-id"));
        problem
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(crate) fn with(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Without any token.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put_blob(&self, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        send(self.request(Method::PUT, &format!("/v1/blobs/{digest}")).body(content.to_vec())).await.done();
        digest
    }

    pub(crate) async fn submit(&self, spec: &Value) -> JobId {
        self.post("/v1/jobs", spec).await.ok::<df_contract::api::Submitted>().id
    }

    pub(crate) async fn job(&self, id: JobId) -> JobView {
        self.get(&format!("/v1/jobs/{id}")).await.ok()
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() }
}

/// A job that nothing is wrong with.
pub(crate) fn plain() -> Value {
    json!({"title": "Shorten links", "description": "A small HTTP service that shortens links."})
}

/// A job that needs people's approval, with a hidden check whose blob `client` uploads.
pub(crate) async fn sensitive(client: &Client) -> Value {
    let blob = client.put_blob(HIDDEN_CONTENT).await;
    let mut spec = plain();
    spec["capabilities"] = json!({"environments": ["production"], "data_classes": ["personal"]});
    spec["acceptance"] = json!([{"id": "unit", "command": "python3 -m unittest"}]);
    spec["hidden_checks"] = json!([{
        "id": "round-trip", "public_hint": "codes must round-trip", "command": HIDDEN_COMMAND, "blob": blob,
    }]);
    spec
}
