//! Standard input, mended, for the protocol's reader.

use crate::mend::mended;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex,
};

/// How much is read ahead of what the protocol has taken, in bytes.
const AHEAD: usize = 64 << 10;

/// The same lines, each [`mended`]: a strict reader would pass over a line with half a character in it, and its call
/// would never be answered.
///
/// A line of more than `longest` bytes comes in pieces; the reader refuses it as a whole.
pub(crate) fn mended_lines(input: impl AsyncRead + Send + Unpin + 'static, longest: u64) -> DuplexStream {
    let (output, mut mended_input) = duplex(AHEAD);
    tokio::spawn(async move {
        let mut lines = BufReader::new(input);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut lines).take(longest).read_until(b'\n', &mut line).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => return tracing::error!(%error, "standard input cannot be read"),
            }
            if mended_input.write_all(&mended(&line)).await.is_err() {
                return;
            }
        }
    });
    output
}
