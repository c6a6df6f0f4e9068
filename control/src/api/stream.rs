//! `POST /v1/publish` with a publication a line (NDJSON): any number of them, in memory that does not grow with it.
//!
//! ```text
//! body ─pieces─▶ lines ─▶ publications ─some hundred at once─▶ shard ─▶ outcomes ─▶ a line for each failure
//!          ▲                                                    │
//!          └── not read while two such parcels are on the way ──┘
//! ```

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use fanwire_codec::http::RequestHead;
use fanwire_core::api::{ApiAnswer, ApiPublication, Ask};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::{Connection, Failure};
use super::error::{ApiError, Code};
use super::publish::{Published, about_topic, no_idempotency_key};
use super::{ANSWER_TIME, Api, Caller, Reply, fields, figures, publication, received};

/// Publications of one parcel: enough that waking the shard costs each of them nothing.
const PARCEL_MAX: usize = 512;
/// Bytes of lines that are looked for publications in one go, if no single line is longer.
const BUFFER_BYTES: usize = 256 << 10;
/// Parcels on the way: one that the shard works on while the next is made.
const PARCELS_MAX: usize = 2;
/// Answers that are sent together.
const ANSWER_BYTES: usize = 16 << 10;

const CONTENT_TYPE: &str = "application/x-ndjson";

/// What is said of a line.
#[derive(Serialize)]
struct LineAnswer<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ApiError>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    published: Option<Published>,
}

/// The last line.
#[derive(Serialize)]
struct Last<'a> {
    summary: Summary<'a>,
}

#[derive(Default, Serialize)]
struct Summary<'a> {
    lines: u64,
    published: u64,
    failed: u64,
    /// Why the stream was not read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ApiError>,
}

/// A parcel that the shard has.
struct OnTheWay {
    answer: oneshot::Receiver<ApiAnswer>,
    /// The number of each publication's line, and whether it is to be answered even if it did not fail.
    lines: Vec<(u64, bool)>,
}

struct Stream<'a, 'c> {
    api: &'a Api,
    caller: &'a Caller<'a>,
    connection: &'c mut Connection,
    /// Came, and has no end of line yet, or is not read yet.
    buffer: BytesMut,
    /// How much of `buffer` has no end of line in it.
    searched: usize,
    parcel: Vec<ApiPublication>,
    lines: Vec<(u64, bool)>,
    on_the_way: VecDeque<OnTheWay>,
    answers: Vec<u8>,
    summary: Summary<'static>,
}

/// Reads the stream and answers it.
pub(super) async fn serve(
    api: &Api,
    connection: &mut Connection,
    caller: &Caller<'_>,
    head: &RequestHead<'_>,
    keep: bool,
) -> Result<Reply, Failure> {
    no_idempotency_key(head)?;
    connection.continue_if_expected().await?;
    connection.begin_stream(CONTENT_TYPE, !keep);
    let mut stream = Stream {
        api,
        caller,
        connection,
        buffer: BytesMut::new(),
        searched: 0,
        parcel: Vec::new(),
        lines: Vec::new(),
        on_the_way: VecDeque::new(),
        answers: Vec::new(),
        summary: Summary::default(),
    };
    let outcome = match stream.read().await {
        Ok(()) => stream.finish().await,
        // What is on the way is published all the same, and counted.
        Err(Failure::Refused(error)) => stream.finish().await.and(Err(error.into())),
        Err(gone) => Err(gone),
    };
    let error = match outcome {
        Ok(()) => None,
        Err(Failure::Refused(error)) => Some(error),
        Err(Failure::Gone(gone)) => return Err(gone.into()),
    };
    let Stream { connection, mut answers, summary, .. } = stream;
    if let Some(error) = &error {
        api.figures.refused(error.code);
    }
    let complete = error.is_none();
    write_line(&mut answers, &Last { summary: Summary { error: error.as_ref(), ..summary } });
    connection.write_chunk(&answers);
    connection.end_stream();
    Ok(Reply::Streamed { complete })
}

impl Stream<'_, '_> {
    async fn read(&mut self) -> Result<(), Failure> {
        let line_max = self.api.config.limits.body_bytes_max;
        let idle = self.api.config.limits.times.body;
        let mut more = true;
        while more {
            // One byte over the longest line, or its end would have no room.
            let room = BUFFER_BYTES.max(self.searched + 1).min(BUFFER_BYTES.max(line_max + 2));
            let may_read = self.on_the_way.len() < PARCELS_MAX;
            tokio::select! {
                biased;
                outcome = first_answer(&mut self.on_the_way) => self.answered(outcome?).await?,
                piece = timeout(idle, self.connection.body_piece(&mut self.buffer, room)), if may_read => {
                    more = piece.map_err(|_| too_slow(idle))??;
                    self.take_lines(line_max).await?;
                }
            }
            self.send_answers().await?;
        }
        let last = self.buffer.split();
        if !last.is_empty() {
            self.take_line(&last);
        }
        self.submit().await
    }

    /// Waits for what is on the way.
    async fn finish(&mut self) -> Result<(), Failure> {
        while !self.on_the_way.is_empty() {
            let outcome = first_answer(&mut self.on_the_way).await?;
            self.answered(outcome).await?;
        }
        Ok(())
    }

    /// Reads all lines that are complete, and gives the shard what it can.
    async fn take_lines(&mut self, line_max: usize) -> Result<(), Failure> {
        while let Some(end) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
            let line = self.buffer.split_to(self.searched + end);
            self.buffer.advance(1);
            self.searched = 0;
            self.take_line(&line);
            if self.parcel.len() >= PARCEL_MAX {
                self.submit().await?;
            }
        }
        self.submit().await?;
        self.searched = self.buffer.len();
        if self.searched > line_max {
            let words = format!("line {} is over {line_max} bytes (http_api.body)", self.summary.lines + 1);
            return Err(ApiError::new(Code::TooLarge, words).into());
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) {
        self.summary.lines += 1;
        figures::add(&self.api.figures.lines, 1);
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let read = fields::text(line)
            .and_then(|text| publication::read(text, self.caller.principal, self.api.access()));
        match read {
            Ok(publication) => {
                self.lines.push((self.summary.lines, publication.receipt));
                self.parcel.push(publication);
            }
            Err(mut error) => {
                error.position = error.position.map(|(_, column)| (self.summary.lines as usize, column));
                self.failed(self.summary.lines, &error);
            }
        }
    }

    /// Gives the shard what there is. What came before is waited for while too much is on the way.
    async fn submit(&mut self) -> Result<(), Failure> {
        if self.parcel.is_empty() {
            return Ok(());
        }
        while self.on_the_way.len() >= PARCELS_MAX {
            let outcome = first_answer(&mut self.on_the_way).await?;
            self.answered(outcome).await?;
        }
        if let Err(error) = self.api.check_still(self.caller) {
            self.parcel.clear();
            return Err(error.into());
        }
        let publications = std::mem::take(&mut self.parcel);
        let lines = std::mem::take(&mut self.lines);
        let answer = self.api.submit(self.caller.shard, Ask::Publish(publications)).await?;
        self.on_the_way.push_back(OnTheWay { answer, lines });
        Ok(())
    }

    async fn answered(&mut self, (answer, lines): (ApiAnswer, Vec<(u64, bool)>)) -> Result<(), Failure> {
        let ApiAnswer::Published(outcomes) = answer else {
            unreachable!("publications are answered as such")
        };
        let mut published = 0;
        for (outcome, (line, wants_receipt)) in outcomes.into_iter().zip(lines) {
            match outcome {
                Ok(receipt) => {
                    published += 1;
                    if wants_receipt {
                        let published = Some(Published::new(receipt));
                        write_line(&mut self.answers, &LineAnswer { line, error: None, published });
                    }
                }
                Err(refusal) => self.failed(line, &about_topic(refusal)),
            }
        }
        self.summary.published += published;
        figures::add(&self.api.figures.publications, published);
        if self.answers.len() >= ANSWER_BYTES {
            self.send_answers().await?;
        }
        Ok(())
    }

    fn failed(&mut self, line: u64, error: &ApiError) {
        self.summary.failed += 1;
        self.api.figures.refused(error.code);
        write_line(&mut self.answers, &LineAnswer { line, error: Some(error), published: None });
    }

    /// Also what was begun: a client that sends on for hours sees at once that it may.
    async fn send_answers(&mut self) -> Result<(), Failure> {
        self.connection.write_chunk(&self.answers);
        self.answers.clear();
        Ok(self.connection.flush().await?)
    }
}

/// The answer to the first parcel; never, if there is none.
async fn first_answer(on_the_way: &mut VecDeque<OnTheWay>) -> Result<(ApiAnswer, Vec<(u64, bool)>), Failure> {
    let Some(first) = on_the_way.front_mut() else { return std::future::pending().await };
    let answer = received(&mut first.answer, ANSWER_TIME).await?;
    let first = on_the_way.pop_front().expect("it was waited for");
    Ok((answer, first.lines))
}

#[cold]
fn too_slow(idle: std::time::Duration) -> ApiError {
    let words = format!("nothing came for {idle:?} (limits.message_time); send at least an empty line");
    ApiError::new(Code::RequestTimeout, words)
}

fn write_line(out: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *out, line).expect("strings and numbers are written");
    out.push(b'\n');
}
