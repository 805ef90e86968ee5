//! A server with fixed answers, in place of a service of another release or in another state; and a minimal HTTP
//! client.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// Answers requests on `port` until the test's process ends: by the longest path that is a prefix of the request's
/// path, with 404 otherwise.
pub(crate) fn serve(port: u16, answers: &[(&str, u16, String)]) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let answers: HashMap<String, (u16, String)> =
        answers.iter().map(|(path, status, body)| ((*path).to_owned(), (*status, body.clone()))).collect();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = answers.clone();
            std::thread::spawn(move || answer(stream, &answers));
        }
    });
}

fn answer(mut stream: TcpStream, answers: &HashMap<String, (u16, String)>) {
    let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = head.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    while head.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let known = answers
        .iter()
        .filter(|(known, _)| path.starts_with(known.as_str()))
        .max_by_key(|(known, _)| known.len());
    let (status, body) = known.map_or_else(|| (404, "{}".to_owned()), |(_, answer)| answer.clone());
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _reader_may_have_left = stream.write_all((head + &body).as_bytes());
}

/// Sends one request to `url` with `token`; returns status and body.
pub(crate) fn send(url: &str, method: &str, token: &str, headers: &str, body: &str) -> (u16, String) {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
    (status, reply.split_once("\r\n\r\n").unwrap().1.to_owned())
}
