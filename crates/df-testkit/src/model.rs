//! A model that follows a script: the outside world, served over HTTP within the test.

mod ask;
mod reply;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use df_contract::Tokens;
use df_contract::api::Spend;
use serde_json::Value;

pub use ask::Ask;
pub use reply::Reply;

use crate::factory::{Model, Setup};

/// Largest request a script is shown.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The key that the server asks for.
pub const PROVIDER_KEY: &str = "sk-scripted-4b1f0c9d7e6a";

/// What was asked and what was answered, as the provider counts it.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub spend: Spend,
    /// Tasks that asked, in order.
    pub tasks: Vec<String>,
}

type Script = dyn Fn(&Ask) -> Reply + Send + Sync;

struct Desk {
    script: Box<Script>,
    tally: Mutex<Tally>,
}

/// An OpenAI-compatible server that answers from a closure; it ends with this value.
pub struct ScriptedModel {
    address: SocketAddr,
    desk: Arc<Desk>,
    server: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedModel").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ScriptedModel {
    pub async fn start(script: impl Fn(&Ask) -> Reply + Send + Sync + 'static) -> Self {
        let desk = Arc::new(Desk { script: Box::new(script), tally: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(Arc::clone(&desk));
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("the model's server") });
        Self { address, desk, server }
    }

    /// Its address, up to and including the version.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// A factory that asks this model.
    pub fn setup(&self) -> Setup {
        Setup::new(Model::Server { base_url: self.base_url() })
    }

    pub fn tally(&self) -> Tally {
        self.desk.tally.lock().expect("the tally").clone()
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn complete(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    let bearer = format!("Bearer {PROVIDER_KEY}");
    if headers.get("authorization").is_none_or(|given| given.as_bytes() != bearer.as_bytes()) {
        return (StatusCode::UNAUTHORIZED, "{\"error\":{\"message\":\"no such key\"}}").into_response();
    }
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let ask = Ask::new(request);
    let reply = (desk.script)(&ask);
    let (input, output) = (ask.tokens(), reply.tokens());
    {
        let mut tally = desk.tally.lock().expect("the tally");
        tally.tasks.push(ask.task());
        if reply.is_answer() {
            tally.spend.calls += 1;
            tally.spend.input_tokens = tally.spend.input_tokens.saturating_add(Tokens(input));
            tally.spend.output_tokens = tally.spend.output_tokens.saturating_add(Tokens(output));
        }
    }
    if let Some(think) = reply.thinks_for() {
        tokio::time::sleep(think).await;
    }
    reply.into_response(&ask, input, output)
}
