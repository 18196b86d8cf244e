//! The service stops at a signal, and what runs then is finished.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The service, and its lines as they come. Killed with the test.
struct Service {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Service {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_example-axum"))
            .args(["127.0.0.1:0", "mails.redb"])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut service = Self {
            child,
            lines,
            address: String::new(),
        };
        let line = service.line();
        let address = line.strip_prefix("listening on ").unwrap();
        address.clone_into(&mut service.address);
        service
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// What is answered to a request.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &process]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn at_a_signal_what_runs_is_finished_and_the_service_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start(directory.path());
    let answer = service.ask("POST", "/mails", r#"{"to":"ada"}"#);
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let (_, id) = answer.split_once(r#""id":""#).unwrap();
    let path = format!("/mails/{}", &id[..36]);
    assert_eq!(service.line(), "sending to ada");
    let answer = service.ask("GET", &path, "");
    assert!(answer.contains(r#""state":"#), "{answer}");
    service.signal("-TERM");
    let mut rest: Vec<String> = service.lines.by_ref().map(Result::unwrap).collect();
    assert_eq!(rest.pop().unwrap(), "stopped");
    rest.sort();
    assert_eq!(rest, ["sent to ada", "stopping"]);
    assert!(service.child.wait().unwrap().success());

    let service = Service::start(directory.path());
    let answer = service.ask("GET", &path, "");
    assert!(answer.contains(r#""state":"completed""#), "{answer}");
    let answer = service.ask("POST", "/mails", r#"{"from":"ada"}"#);
    assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
}
