//! What every request passes before a route sees it, and every answer after.
//!
//! A page elsewhere can have a browser send requests here: by a name that it lets point to this machine (so `Host` is
//! checked), or across sites (so `Origin` is, where anything could change). Tokens come as `Bearer`, or as the password
//! of `Basic`, which browsers ask for. Health needs none.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::options::Token;
use crate::problem::{Cause, Problem};

/// Who may come in.
#[derive(Debug)]
pub struct Guard {
    token: Option<Token>,
    /// In small letters, without ports.
    hosts: Vec<String>,
}

/// Headers of every answer that has not said otherwise.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(self), microphone=(), geolocation=()"),
];

impl Guard {
    /// For a server that listens on `address`.
    pub fn new(token: Option<Token>, hosts: &[String], address: SocketAddr) -> Self {
        let mut names = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
        names.extend(hosts.iter().map(|host| host.to_ascii_lowercase()));
        if !address.ip().is_unspecified() {
            names.push(host_of(&address.to_string()).to_owned());
        }
        Self { token, hosts: names }
    }

    fn admit(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let named = match one(headers, &header::HOST)? {
            Some(host) => Some(host),
            None => request.uri().authority().map(|authority| authority.as_str()),
        };
        let Some(named) = named else {
            return Err(Problem::bad_request("expected a header Host, found none"));
        };
        if !self.hosts.iter().any(|host| host.eq_ignore_ascii_case(host_of(named))) {
            let detail = format!(
                "expected the header Host to name this server ({}), found {named:?}",
                self.hosts.join(", ")
            );
            return Err(Problem::new(Cause::Forbidden, detail));
        }
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if let Some(origin) = one(headers, &header::ORIGIN)?.filter(|_| changes)
            && origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(named))
        {
            let detail = format!("expected a request of this server's own pages, found one from {origin:?}");
            return Err(Problem::new(Cause::Forbidden, detail));
        }
        let is_health = matches!(request.uri().path(), "/v2/health/live" | "/v2/health/ready");
        match &self.token {
            Some(token) if !is_health => check_token(token, headers),
            _ => Ok(()),
        }
    }
}

/// Lets a request in or answers it, and gives answers their headers.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.admit(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn check_token(token: &Token, headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(Cause::Unauthorized, detail));
    let Some(said) = one(headers, &header::AUTHORIZATION)? else {
        return refused("expected the header Authorization with the token, found none");
    };
    let Some((scheme, said)) = said.split_once(' ') else {
        return refused("expected the header Authorization to be Bearer or Basic, found neither");
    };
    let said = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => said.trim().as_bytes().to_vec(),
        // Whatever the name is.
        "basic" => match from_base64(said.trim()) {
            Some(pair) => pair.splitn(2, |&byte| byte == b':').nth(1).unwrap_or_default().to_vec(),
            None => return refused("expected Basic credentials in Base64, found something else"),
        },
        _ => return refused("expected the header Authorization to be Bearer or Basic, found another"),
    };
    if token.is(&said) { Ok(()) } else { refused("expected this server's token, found another") }
}

/// A header that may stand once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str());
    match (value.transpose(), values.next()) {
        (Ok(value), None) => Ok(value),
        _ => Err(Problem::bad_request(format!(
            "expected one header {name} of ASCII, found another or several"
        ))),
    }
}

/// The name or address in `name:port`.
fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// The bytes of Base64 (RFC 4648, padded); `None` where it is none.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut n) = (Vec::new(), 0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        n += 6;
        if n >= 8 {
            n -= 8;
            bytes.push((bits >> n) as u8);
            bits &= (1 << n) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn admitted(guard: &Guard, method: &str, headers: &[(&str, &str)]) -> Result<(), Cause> {
        let mut request = Request::builder().method(method).uri("/v1/model");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.admit(&request.body(Body::empty()).unwrap()).map_err(|problem| problem.cause)
    }

    #[test]
    fn only_names_of_this_server_are_answered() {
        let guard = Guard::new(None, &["Faces.Example".to_owned()], "10.0.0.7:8080".parse().unwrap());
        for good in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "faces.example", "10.0.0.7:8080"]
        {
            assert_eq!(admitted(&guard, "GET", &[("host", good)]), Ok(()), "{good}");
        }
        for bad in
            ["", "evil.example", "localhost.evil.example", "evil.example:8080", "[::2]", "10.0.0.70", "[::1"]
        {
            assert_eq!(admitted(&guard, "GET", &[("host", bad)]), Err(Cause::Forbidden), "{bad}");
        }
        assert_eq!(admitted(&guard, "GET", &[]), Err(Cause::BadRequest));
        assert_eq!(
            admitted(&guard, "GET", &[("host", "localhost"), ("host", "evil.example")]),
            Err(Cause::BadRequest)
        );
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let guard = Guard::new(None, &[], "127.0.0.1:8080".parse().unwrap());
        let from =
            |method, origin| admitted(&guard, method, &[("host", "localhost:8080"), ("origin", origin)]);
        assert_eq!(from("POST", "http://localhost:8080"), Ok(()));
        assert_eq!(
            from("GET", "https://evil.example"),
            Ok(()),
            "without CORS its page cannot read the answer"
        );
        for bad in ["https://evil.example", "http://localhost:8081", "http://localhost", "null", ""] {
            assert_eq!(from("POST", bad), Err(Cause::Forbidden), "{bad}");
        }
    }

    #[test]
    fn a_token_is_taken_as_bearer_and_as_a_browsers_password() {
        let guard = Guard::new(Some(Token::new("0123456789abcdef")), &[], "127.0.0.1:80".parse().unwrap());
        let with = |said| admitted(&guard, "GET", &[("host", "localhost"), ("authorization", said)]);
        // RFC 7617's own example has the password `open sesame`.
        assert_eq!(from_base64("QWxhZGRpbjpvcGVuIHNlc2FtZQ==").as_deref(), Some(&b"Aladdin:open sesame"[..]));
        for good in
            ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", "Basic bWU6MDEyMzQ1Njc4OWFiY2RlZg=="]
        {
            assert_eq!(with(good), Ok(()), "{good}");
        }
        for bad in [
            "0123456789abcdef",
            "Bearer",
            "Bearer 0123456789abcde",
            "Basic !!!!",
            "Basic QQ=",
            "Digest x",
            "",
        ] {
            assert_eq!(with(bad), Err(Cause::Unauthorized), "{bad}");
        }
        assert_eq!(admitted(&guard, "GET", &[("host", "localhost")]), Err(Cause::Unauthorized));
    }
}
