//! A program that is asked by HTTP, and that can be made to misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// What it is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Request line and fields.
    pub head: String,
    /// As it came.
    pub body: String,
}

impl Asked {
    /// A field of the JSON body; null if there is none.
    pub fn field(&self, name: &str) -> Value {
        serde_json::from_str::<Value>(&self.body)
            .ok()
            .and_then(|body| body.get(name).cloned())
            .unwrap_or_default()
    }
}

/// What it answers with.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status and a body.
    Status(u16, String),
    /// These bytes, and the end.
    Bytes(Vec<u8>),
    /// The same, later.
    After(Duration, Box<Reply>),
    /// Nothing, for as long as the other one waits.
    Never,
}

impl Reply {
    /// Yes.
    pub fn allow() -> Self {
        Self::Status(204, String::new())
    }

    /// No.
    pub fn deny() -> Self {
        Self::Status(403, String::new())
    }

    /// Status 200 with this.
    pub fn json(body: &Value) -> Self {
        Self::Status(200, body.to_string())
    }
}

type Answer = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// The program. Dropping it ends it: its port refuses connections then.
pub struct HookServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
}

impl HookServer {
    /// Answers so at a free port.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), answer)
    }

    /// Answers so at this address, where another one may have been.
    pub fn at(address: SocketAddr, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            answer: Mutex::new(Arc::new(answer)),
            asked: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if served.is_over.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&served);
                // A peer that breaks off ends its own thread.
                thread::spawn(move || _ = serve(stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers so from now on.
    pub fn set(&self, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.shared.answer.lock().expect("nobody panics with it") = Arc::new(answer);
    }

    /// Everything that it was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("nobody panics with it").clone()
    }

    /// How often it was asked about this.
    pub fn count(&self, event: &str) -> usize {
        self.asked().iter().filter(|asked| asked.field("event") == event).count()
    }
}

impl Drop for HookServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        // So that its thread sees it.
        _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader)? {
        if shared.is_over.load(Ordering::Acquire) {
            return Ok(());
        }
        let answer = Arc::clone(&shared.answer.lock().expect("nobody panics with it"));
        shared.asked.lock().expect("nobody panics with it").push(asked.clone());
        let mut reply = answer(&asked);
        while let Reply::After(time, later) = reply {
            thread::sleep(time);
            reply = *later;
        }
        match reply {
            Reply::Status(status, body) => {
                let length =
                    if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
                write!(writer, "HTTP/1.1 {status} X\r\n{length}\r\n{body}")?;
            }
            Reply::Bytes(bytes) => return writer.write_all(&bytes),
            // The other one gives up, which ends the connection.
            Reply::Never => _ = reader.read(&mut [0])?,
            Reply::After(..) => unreachable!("it was waited for"),
        }
    }
    Ok(())
}

/// The next request; none at the end.
fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    };
    let mut body = vec![0; head.lines().find_map(field).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(Asked { head, body: String::from_utf8_lossy(&body).into_owned() }))
}
