//! One `WritePart` request.

use super::connection::{Answer, unexpected};
use super::fault::Fault;
use super::pool::Pooled;
use super::socket::Sent;
use forebay_proto::frame::{Kind, WritePartHead};
use std::time::Duration;

/// Sends a part and waits until the worker has stored it. Returns the store's mark of it.
///
/// `patience` is for taking some of the bytes, and for the signs of life that a worker sends while its store takes its time.
pub(crate) async fn send_part(
    connection: &mut Pooled,
    head: &WritePartHead,
    body: &[&[u8]],
    patience: Duration,
) -> Result<String, Fault> {
    let sent = connection.send(Kind::WritePart, head, body, patience).await?;
    match connection.answer_after_signs_of_life(patience).await? {
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
