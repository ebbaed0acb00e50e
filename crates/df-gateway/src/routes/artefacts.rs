//! What a job made: its artefacts, traces and check logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use df_contract::{Digest, ErrorCode};
use df_control_machine::JobRecord;

use crate::error::{ApiError, refused};
use crate::extract::{Passed, PathOf};
use crate::gateway::Gateway;
use crate::routes::blobs;
use crate::view::{is_hidden, shown_artefacts, shown_blobs};

type Record = Passed<Arc<JobRecord>>;

/// File name → SHA-256.
pub(crate) async fn list(Passed(record): Record) -> Json<BTreeMap<String, Digest>> {
    Json(shown_artefacts(&record).map(|(name, digest)| (name.clone(), digest.clone())).collect())
}

pub(crate) async fn show(
    State(gateway): State<Gateway>,
    Passed(record): Record,
    path: PathOf,
) -> Result<Response, ApiError> {
    let name: String = path.parse("name")?;
    let found = shown_artefacts(&record).find(|(shown, _)| **shown == name);
    let (_, digest) = found.ok_or_else(|| {
        refused(
            ErrorCode::NotFound,
            format!("the job has no artefact `{}`", name.chars().take(100).collect::<String>()),
        )
    })?;
    let mut response = blobs::content(&gateway, digest).await?;
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// A blob by its digest, where it is this job's to show. Anything else does not exist here.
pub(crate) async fn blob(
    State(gateway): State<Gateway>,
    Passed(record): Record,
    path: PathOf,
) -> Result<Response, ApiError> {
    let digest: Digest = path.parse("digest")?;
    let kept = async || gateway.store().blob_kept(record.id, digest.clone()).await;
    // What a worker reported too late may be a hidden check under another name.
    let shown = shown_blobs(&record).contains(&digest) || (!is_hidden(&record, &digest) && kept().await?);
    if !shown {
        return Err(refused(ErrorCode::BlobMissing, "the job shows no such blob"));
    }
    blobs::content(&gateway, &digest).await
}
