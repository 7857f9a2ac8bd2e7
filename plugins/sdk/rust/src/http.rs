//! Requests to servers, for a plugin that is granted some: manifest (`grants.http`), transform (`http`) and the tenant's
//! policy together. Inside `process` only; at most 256 at once. What comes back is part of what becomes of the records, but
//! until that is durable a request may be sent again: use those that may be.
//!
//! Outside a component nothing is sent: a test answers itself, with [`answering`].

/// A request. The host sets `host`, lengths, and what the transform's config has of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// With http or https, without a user or a password.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// May be empty.
    pub body: Vec<u8>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Redirects are not followed: they are answers.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// As it came: not decompressed.
    pub body: Vec<u8>,
}

impl Request {
    /// Asks for this.
    pub fn get(url: impl Into<String>) -> Request {
        Request { method: "GET".to_owned(), url: url.into(), ..Request::default() }
    }

    /// Sends this.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
        Request { method: "POST".to_owned(), url: url.into(), body: body.into(), ..Request::default() }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Sends all of them, each on its own, and waits for the answers: one for each, in their order. An `Err` says why there is
/// none; that the plugin may not ask there is one, too.
pub fn send(requests: Vec<Request>) -> Vec<Result<Response, String>> {
    face::send(requests)
}

#[cfg(not(target_arch = "wasm32"))]
pub use face::answering;

#[cfg(target_arch = "wasm32")]
mod face {
    use super::{Request, Response};
    use crate::bindings::wasmill::plugin::http;

    pub(super) fn send(requests: Vec<Request>) -> Vec<Result<Response, String>> {
        let requests = requests.into_iter().map(|request| {
            let Request { method, url, headers, body } = request;
            http::Request { method, url, headers, body }
        });
        let answers = http::send(&requests.collect::<Vec<_>>()).into_iter();
        let taken = |http::Response { status, headers, body }| Response { status, headers, body };
        answers.map(|answer| answer.map(taken)).collect()
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod face {
    use std::cell::RefCell;

    use super::{Request, Response};

    type Answer = Box<dyn FnMut(&Request) -> Result<Response, String>>;

    thread_local! {
        static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
    }

    /// More in one call trap a component.
    const REQUESTS_MAX: usize = 256;

    pub(super) fn send(requests: Vec<Request>) -> Vec<Result<Response, String>> {
        assert!(
            requests.len() <= REQUESTS_MAX,
            "http.send: {} requests at once; at most {REQUESTS_MAX} are allowed",
            requests.len()
        );
        // Taken out meanwhile, so that it may itself call what it likes.
        let answer = ANSWER.with(RefCell::take);
        let Some(mut answer) = answer else {
            return requests.iter().map(|request| Err(format!("not granted: {}", request.url))).collect();
        };
        let answers = requests.iter().map(&mut answer).collect();
        ANSWER.with(|kept| kept.replace(Some(answer)));
        answers
    }

    /// For tests: what is sent on this thread while `run` runs is answered so.
    ///
    /// ```
    /// use wasmill_sdk::http::{self, Request, Response};
    ///
    /// let teapot = |_: &Request| Ok(Response { status: 418, ..Response::default() });
    /// let answers = http::answering(teapot, || http::send(vec![Request::get("http://pot.example/")]));
    /// assert_eq!(answers[0].as_ref().map(|answer| answer.status), Ok(418));
    /// assert!(http::send(vec![Request::get("http://pot.example/")])[0].is_err());
    /// ```
    pub fn answering<T>(
        answer: impl FnMut(&Request) -> Result<Response, String> + 'static,
        run: impl FnOnce() -> T,
    ) -> T {
        /// Also after a panic: the thread may run another test.
        struct Before(Option<Answer>);
        impl Drop for Before {
            fn drop(&mut self) {
                let before = self.0.take();
                ANSWER.with(|kept| drop(kept.replace(before)));
            }
        }
        let _before = Before(ANSWER.with(|kept| kept.replace(Some(Box::new(answer)))));
        run()
    }
}
