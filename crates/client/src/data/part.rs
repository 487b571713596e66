//! One `WritePart` request.

use super::connection::{Answer, unexpected};
use super::fault::Fault;
use super::pool::Pooled;
use super::socket::Sent;
use forebay_proto::frame::{Kind, WritePartHead};
use std::time::Duration;

/// How long a worker may take over a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartPatience {
    /// For taking some of its bytes.
    pub(crate) send: Duration,
    /// For storing it, after all its bytes were sent.
    pub(crate) store: Duration,
}

/// Sends a part and waits until the worker has stored it. Returns the store's mark of it.
pub(crate) async fn send_part(
    connection: &mut Pooled,
    head: &WritePartHead,
    body: &[&[u8]],
    patience: PartPatience,
) -> Result<String, Fault> {
    let sent = connection.send(Kind::WritePart, head, body, patience.send).await?;
    let answer = match sent {
        Sent::All => connection.answer(patience.store).await?,
        Sent::Answered => connection.answer(patience.send).await?,
    };
    match answer {
        Answer::Written(written) if sent == Sent::All => {
            connection.give_back();
            Ok(written.tag)
        }
        Answer::Error(error) => {
            if sent == Sent::All {
                connection.give_back();
            }
            Err(Fault::refused(error))
        }
        other => Err(unexpected(other)),
    }
}
