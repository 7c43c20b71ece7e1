//! HTTP CONNECT (RFC 9110, 9.3.6) as bytes: the request of a client, and what is answered. Pure.

use super::socks::{Code, Fault, Parse};
use super::target::{BadTarget, Target};

/// The longest request, head and all, in bytes.
pub const LONGEST: usize = 8192;
const METHOD: &[u8] = b"CONNECT ";
/// More header lines than any client sends.
const MOST_HEADERS: usize = 64;

/// Reads a request: where to connect to, and how long its head is. What follows belongs to the destination.
pub fn request(bytes: &[u8]) -> Parse<Target> {
    // Judged as soon as it is there: another method needs no more waiting, and its fault has the better remedy.
    if bytes.iter().zip(METHOD).any(|(is, wanted)| is != wanted) {
        return Parse::Bad(Fault::NotConnect);
    }
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let used = match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) if used <= LONGEST => used,
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST => return Parse::More(1),
        Ok(_) => return Parse::Bad(Fault::TooLong),
        Err(_) => return Parse::Bad(Fault::Http),
    };
    match Target::parse(request.path.unwrap_or_default()) {
        Ok(target) => Parse::Done(target, used),
        Err(BadTarget::NoHost) => Parse::Bad(Fault::Name),
        Err(BadTarget::NoPort) => Parse::Bad(Fault::Port),
    }
}

/// What tells a client that it is connected.
pub const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The answer to a request that could not be understood.
pub fn refusal(fault: Fault) -> Vec<u8> {
    let status = match fault {
        Fault::NotConnect => "405 Method Not Allowed\r\nAllow: CONNECT",
        Fault::TooLong => "431 Request Header Fields Too Large",
        _ => "400 Bad Request",
    };
    answer(status, &fault.to_string())
}

/// The answer to a request that could not be done.
pub fn failure(code: Code, words: &str) -> Vec<u8> {
    let status = match code {
        Code::NotAllowed => "403 Forbidden",
        Code::TimedOut => "504 Gateway Timeout",
        Code::Failed => "503 Service Unavailable",
        _ => "502 Bad Gateway",
    };
    answer(status, words)
}

fn answer(status: &str, words: &str) -> Vec<u8> {
    let body = format!("proxy-shim: {words}\n");
    let len = body.len();
    let head = "Content-Type: text/plain\r\nConnection: close";
    format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {len}\r\n\r\n{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIT: &[u8] = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nUser-Agent: git/2.39\r\n\r\n";

    #[test]
    fn a_request_is_read_in_every_segmentation_and_what_follows_is_left() {
        for cut in 0..GIT.len() {
            assert_eq!(request(&GIT[..cut]), Parse::More(1), "{cut}");
        }
        let mut more = GIT.to_vec();
        more.extend(b"\x16\x03\x01");
        assert_eq!(request(&more), Parse::Done(Target::parse("example.org:443").unwrap(), GIT.len()));
    }

    #[test]
    fn addresses_of_both_kinds_are_read() {
        for host in ["127.0.0.1:22", "[::1]:22"] {
            let text = format!("CONNECT {host} HTTP/1.0\r\n\r\n");
            assert_eq!(request(text.as_bytes()), Parse::Done(Target::parse(host).unwrap(), text.len()));
        }
    }

    #[test]
    fn other_requests_are_refused_as_soon_as_their_method_is_there() {
        assert_eq!(request(b"GET "), Parse::Bad(Fault::NotConnect));
        assert_eq!(request(b"CONNECT nowhere HTTP/1.1\r\n\r\n"), Parse::Bad(Fault::Port));
        assert_eq!(request(b"CONNECT ::1:1 HTTP/1.1\r\n\r\n"), Parse::Bad(Fault::Name));
        assert_eq!(request(b"CONNECT a:1 HTTP/9\r\n"), Parse::Bad(Fault::Http));
    }

    #[test]
    fn a_head_without_end_is_refused_at_its_limit() {
        let mut bytes = b"CONNECT a:1 HTTP/1.1\r\nX: ".to_vec();
        bytes.resize(LONGEST - 1, b'x');
        assert_eq!(request(&bytes), Parse::More(1));
        bytes.push(b'x');
        assert_eq!(request(&bytes), Parse::Bad(Fault::TooLong));
    }

    #[test]
    fn answers_are_http_with_their_length() {
        for answer in [refusal(Fault::NotConnect), failure(Code::Refused, "no"), failure(Code::TimedOut, "")] {
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(head) = response.parse(&answer).unwrap() else { panic!("{answer:?}") };
            let len = response.headers.iter().find(|h| h.name == "Content-Length").unwrap();
            assert_eq!(std::str::from_utf8(len.value).unwrap().parse(), Ok(answer.len() - head));
        }
    }
}
