//! The paths of the document by the pattern under which poem routes them: for the `Allow` header of a 405 and the `route` label of metrics.

use poem::PathPattern;
use std::collections::HashMap;

/// What we know of one path.
struct Route {
    /// As the document writes it: `/v1/runs/{id}`.
    path: String,
    /// Its methods: `GET, HEAD, POST`.
    allow: String,
}

/// Every path of the document. Those that are not in it are pages, which are only read.
pub(crate) struct Routes(HashMap<String, Route>);

impl Routes {
    /// Reads them from the OpenAPI document.
    pub(crate) fn of(document: &str) -> Self {
        let document: serde_json::Value = serde_json::from_str(document).unwrap_or_default();
        let mut by_pattern = HashMap::new();
        for (path, operations) in document["paths"].as_object().into_iter().flatten() {
            let mut methods: Vec<String> =
                operations.as_object().into_iter().flatten().map(|(method, _)| method.to_uppercase()).collect();
            if methods.iter().any(|method| method == "GET") {
                methods.push("HEAD".to_owned());
            }
            methods.sort();
            by_pattern.insert(pattern_of(path), Route { path: path.clone(), allow: methods.join(", ") });
        }
        Self(by_pattern)
    }

    /// The methods that the path takes.
    pub(crate) fn allow(&self, pattern: Option<&PathPattern>) -> &str {
        self.find(pattern).map_or("GET, HEAD", |route| &route.allow)
    }

    /// The path as the document writes it; `None` when the request matched none.
    pub(crate) fn path<'a>(&'a self, pattern: Option<&'a PathPattern>) -> Option<&'a str> {
        let page = || pattern.map(|pattern| &*pattern.0);
        self.find(pattern).map(|route| route.path.as_str()).or_else(page)
    }

    fn find(&self, pattern: Option<&PathPattern>) -> Option<&Route> {
        self.0.get(&*pattern?.0)
    }
}

/// `/v1/tickers/{exchange}/{ticker}` is routed as `/v1/tickers/:param0/:param1`.
fn pattern_of(path: &str) -> String {
    let mut params = 0..;
    let segments = path.split('/').map(|segment| match segment.starts_with('{') {
        true => format!(":param{}", params.next().unwrap_or(0)),
        false => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered() {
        assert_eq!(pattern_of("/v1/tickers/{exchange}/{ticker}/bars"), "/v1/tickers/:param0/:param1/bars");
        assert_eq!(pattern_of("/v1/runs"), "/v1/runs");
    }
}
