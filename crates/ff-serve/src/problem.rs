//! Errors as clients get them: `application/problem+json` (RFC 9457) with a cause that programs can tell apart.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What programs go by.
    pub cause: Cause,
    /// What was expected and what was found.
    pub detail: String,
}

/// What programs go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The request is not one of this API's.
    BadRequest,
    /// The token is missing or another one.
    Unauthorized,
    /// The request came under a name that is not this server's, or from another site's page.
    Forbidden,
    /// There is no such place.
    NotFound,
    /// The place has other methods.
    MethodNotAllowed,
    /// The body took too long to come.
    SlowBody,
    /// The body is longer than allowed.
    TooLarge,
    /// The body is of a kind that is not taken.
    UnsupportedType,
    /// The body is no image, or one that cannot be used.
    Unprocessable,
    /// More work waits than is allowed to.
    Overloaded,
    /// A bug.
    Internal,
    /// The server stops.
    Stopping,
    /// The answer would have come too late.
    TimedOut,
}

impl Cause {
    /// The status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl Problem {
    /// A problem.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }

    /// A request that is not one of this API's.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(Cause::BadRequest, detail)
    }
}

/// As it is written.
#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    cause: Cause,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.cause.status();
        let title = status.canonical_reason().unwrap_or_default();
        let body = Body { title, status: status.as_u16(), detail: &self.detail, cause: self.cause };
        let body = serde_json::to_vec(&body).expect("texts and a number are JSON");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.cause {
            Cause::Overloaded => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // A browser asks for the token by the first, as the password of any name.
            Cause::Unauthorized => {
                let basic = HeaderValue::from_static("Basic realm=\"fairface\", charset=\"UTF-8\"");
                headers.append(header::WWW_AUTHENTICATE, basic);
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
