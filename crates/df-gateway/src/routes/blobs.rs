//! Blobs by their digest: up for submitters and leases, down for leases alone.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use df_contract::lease::MAX_BLOB_BYTES;
use df_contract::{Digest, ErrorCode};
use futures::{StreamExt as _, stream};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use crate::error::{ApiError, refused, unreadable};
use crate::extract::{Passed, PathOf, content_length};
use crate::gateway::Gateway;
use crate::guard::LeasePass;
use crate::limits::BLOB_IDLE_TIMEOUT;

/// Read from the file and sent at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Streams the body into the store; it is kept only when it is whole and has the digest in the address.
pub(crate) async fn put(
    State(gateway): State<Gateway>,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let digest: Digest = path.parse("digest")?;
    if content_length(&headers).is_some_and(|n| n > MAX_BLOB_BYTES) {
        return Err(refused(ErrorCode::BodyTooLarge, format!("a blob has at most {MAX_BLOB_BYTES} bytes")));
    }
    let mut writer = gateway.blobs().begin().await?;
    let mut pieces = body.into_data_stream();
    let slow = |_| unreadable(StatusCode::REQUEST_TIMEOUT, "the blob stopped arriving");
    while let Some(piece) = tokio::time::timeout(BLOB_IDLE_TIMEOUT, pieces.next()).await.map_err(slow)? {
        let piece = piece.map_err(|_| refused(ErrorCode::InvalidRequest, "the blob broke off"))?;
        writer.write(&piece).await?;
    }
    writer.finish(&digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the lease's own work names, and nothing else.
pub(crate) async fn show(
    State(gateway): State<Gateway>,
    Passed(LeasePass { held, record }): Passed<LeasePass>,
    path: PathOf,
) -> Result<Response, ApiError> {
    let digest: Digest = path.parse("digest")?;
    gateway.orchestrator().may_read(&held, &record, &digest)?;
    content(&gateway, &digest).await
}

/// A blob as an answer, streamed.
pub(crate) async fn content(gateway: &Gateway, digest: &Digest) -> Result<Response, ApiError> {
    let found = gateway.blobs().open_read(digest).await?;
    let (file, size) =
        found.ok_or_else(|| refused(ErrorCode::BlobMissing, format!("there is no blob {digest}")))?;
    let pieces = stream::try_unfold(file, async |mut file: File| {
        let mut piece = vec![0; PIECE_BYTES];
        let n = file.read(&mut piece).await?;
        piece.truncate(n);
        Ok::<_, std::io::Error>((n > 0).then(|| (Bytes::from(piece), file)))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}
