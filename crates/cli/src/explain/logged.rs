//! A request that left no entry, found in the services' logs by its correlation id: its reply was replayed, or it was
//! refused before any work. Only logs of a pair that `mainstay up` started can be read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use local::Service;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::words::plain;

/// The number of bytes read from the end of a log: a tenth of a second's work.
const READ_AT_MOST: u64 = 32 << 20;

/// The canonical line of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    /// A phrase with method, route, status and time.
    pub(crate) summary: String,
    pub(crate) is_replay: bool,
    pub(crate) order: Option<Uuid>,
}

#[derive(Deserialize)]
struct Line {
    timestamp: String,
    message: String,
    correlation_id: String,
    #[serde(rename = "http.request.method")]
    method: String,
    #[serde(rename = "http.route", default)]
    route: String,
    #[serde(rename = "http.response.status_code")]
    status: u16,
    #[serde(default)]
    fields: Fields,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Fields {
    order_id: Option<Uuid>,
    idempotent_replayed: bool,
}

/// Finds the request's line in either log of the directory; `None` when neither has it.
pub(crate) fn find(home: &Path, correlation_id: &str) -> Option<Logged> {
    let found = Service::BOTH.map(|service| {
        let file = home.join(format!("{}.log", service.name()));
        in_file(&file, correlation_id, service).unwrap_or_default()
    });
    found.into_iter().flatten().max_by_key(|logged| logged.order.is_some())
}

/// Reads the lines that contain `text` and have the form of `T`. Lines of another form or another program are
/// skipped.
fn each_line<T: DeserializeOwned>(file: &Path, text: &str, mut take: impl FnMut(T)) -> io::Result<()> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ_AT_MOST)))?;
    let mut lines = BufReader::new(file);
    let mut bytes = Vec::new();
    while lines.read_until(b'\n', &mut bytes)? > 0 {
        let line = std::str::from_utf8(&bytes).ok().filter(|line| line.contains(text));
        if let Some(line) = line.and_then(|line| serde_json::from_str(line).ok()) {
            take(line);
        }
        bytes.clear();
    }
    Ok(())
}

fn in_file(file: &Path, correlation_id: &str, service: Service) -> io::Result<Option<Logged>> {
    let mut found = None;
    each_line(file, correlation_id, |line: Line| {
        if line.correlation_id == correlation_id && line.message == "request" {
            let summary = format!(
                "{} {} answered {} at {} by the {service} service",
                plain(&line.method),
                plain(&line.route),
                line.status,
                plain(&line.timestamp)
            );
            let Fields { order_id, idempotent_replayed } = line.fields;
            found = Some(Logged { summary, is_replay: idempotent_replayed, order: order_id });
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use local::TemporaryDirectory;

    use super::*;

    #[test]
    fn a_replayed_request_is_found_among_lines_that_cannot_be_read() {
        let home = TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap();
        let order = Uuid::from_u128(7);
        let line = format!(
            "{{\"timestamp\":\"T\",\"message\":\"request\",\"http.request.method\":\"POST\",\"http.route\":\"/v1/orders\",\
             \"http.response.status_code\":201,\"correlation_id\":\"c-2\",\
             \"fields\":{{\"order_id\":\"{order}\",\"idempotent_replayed\":true}}}}\n"
        );
        let text = [b"not json \xff\n".as_slice(), line.as_bytes(), b"{\"correlation_id\":\"c-2\"}\n{\"cut"]
            .concat();
        std::fs::write(home.path().join("order.log"), text).unwrap();
        let logged = find(home.path(), "c-2").unwrap();
        assert_eq!((logged.is_replay, logged.order), (true, Some(order)));
        assert_eq!(logged.summary, "POST /v1/orders answered 201 at T by the order service");
        assert_eq!(find(home.path(), "c-3"), None);
    }
}
