//! The principal of a request, as an argument of its handler.

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::caller::Caller;
use super::problem::Problem;
use crate::failure::{Code, Failure};
use crate::supervise::principal::{Person, Principal};

/// The person whom the caller acts for.
const ON_BEHALF_OF: &str = "bulkhead-on-behalf-of";

/// Who asks, and for whom.
pub(super) struct Acting(pub(super) Principal);

impl<S: Sync> FromRequestParts<S> for Acting {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<ConnectInfo<Caller>>();
        let caller = caller.map_or_else(Caller::nobody, |ConnectInfo(caller)| caller.clone());
        Ok(Self(Principal::user(caller.uid, person(&parts.headers)?)))
    }
}

fn person(headers: &HeaderMap) -> Result<Option<Person>, Failure> {
    let mut values = headers.get_all(ON_BEHALF_OF).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let message = format!("the header {ON_BEHALF_OF} is given twice; one request has one");
        return Err(Failure::new(Code::InvalidRequest, message).with("header", ON_BEHALF_OF));
    }
    // What is no text is refused there, as what is not plain is.
    String::from_utf8_lossy(value.as_bytes()).parse().map(Some)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn one_header_names_the_person() {
        let mut headers = HeaderMap::new();
        assert_eq!(person(&headers), Ok(None));
        headers.append(ON_BEHALF_OF, HeaderValue::from_static("dr.smith"));
        assert_eq!(person(&headers), Ok(Some("dr.smith".parse().unwrap())));
        headers.append(ON_BEHALF_OF, HeaderValue::from_static("dr.jones"));
        assert_eq!(person(&headers).unwrap_err().details["header"], ON_BEHALF_OF);
        for bad in [&b""[..], b"\xff", b"a\tb"] {
            headers.insert(ON_BEHALF_OF, HeaderValue::from_bytes(bad).unwrap());
            assert_eq!(person(&headers).unwrap_err().code, Code::InvalidRequest, "{bad:?}");
        }
    }
}
