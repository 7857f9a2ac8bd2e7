//! A believable web server's access log (combined format), the same bytes for the same seed.
//!
//! Pages, images, feeds and an API, visited by people, bots and spiders in proportions like those of a real
//! blog: about a tenth of the requests go to `/images/`, an eighth of the agents are bots, some referrers and
//! agents hold escaped quotes and bytes. Every 58,823rd line is damaged so that no parser can save it: 17 of a
//! million. It knows no plugin; what a stream makes of the lines is not its business.

mod draw;
mod vocabulary;

use std::io::Write;

use self::draw::{Clock, Draw};
use self::vocabulary as words;

/// The seed of logs for which nobody chose another.
pub const DEFAULT_SEED: u64 = 42;

/// One line in so many is damaged, the first in the middle of the first so many.
const DAMAGED_EVERY: u64 = 58_823;
/// Clients that visit; a few of them cause most of the traffic.
const CLIENTS: u64 = 24_000;
/// Bytes gathered before they are written out.
const BLOCK_BYTES: usize = 256 * 1024;

/// The lines of a log, one after the other.
pub struct AccessLog {
    draw: Draw,
    clock: Clock,
    line: u64,
}

impl AccessLog {
    /// The log of this seed, from its first line.
    pub fn new(seed: u64) -> AccessLog {
        AccessLog { draw: Draw::new(seed), clock: Clock::new(), line: 0 }
    }

    /// Appends the next line with its newline.
    pub fn append_line(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        self.clock.advance(&mut self.draw);
        self.append_whole_line(out);
        if self.line % DAMAGED_EVERY == DAMAGED_EVERY / 2 {
            damage(out, start, self.line / DAMAGED_EVERY);
        }
        out.push(b'\n');
        self.line += 1;
    }

    fn append_whole_line(&mut self, out: &mut Vec<u8>) {
        let draw = &mut self.draw;
        // The square makes low numbers, and so some clients, much more frequent.
        let client = draw.skewed(CLIENTS);
        draw::append_address(out, client);
        out.extend_from_slice(if draw.one_in(400) { b" - alice [" } else { b" - - [" });
        out.extend_from_slice(self.clock.text());
        out.extend_from_slice(b" +0000] \"");

        // A client keeps its agent, so the choice hangs on the client and not on the draw.
        let agent = words::agent_of(client);
        let method = match draw.below(1000) {
            0..4 => "HEAD",
            4..16 => "POST",
            16 => "OPTIONS",
            _ => "GET",
        };
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        let path_start = out.len();
        let kind = words::append_path(out, draw, agent.is_bot);
        let resource = draw::hash(out.get(path_start..).unwrap_or_default());
        out.extend_from_slice(if draw.one_in(12) { b" HTTP/1.0\" " } else { b" HTTP/1.1\" " });

        let status = kind.status(draw);
        draw::append_number(out, status);
        out.push(b' ');
        match (status, method) {
            (304, _) | (_, "HEAD") => out.push(b'-'),
            (200, _) => draw::append_number(out, kind.size(resource)),
            (206, _) => draw::append_number(out, 1 + draw.below(kind.size(resource).max(1))),
            _ => draw::append_number(out, 180 + draw.below(400)),
        }
        out.extend_from_slice(b" \"");
        words::append_referrer(out, draw, kind, agent.is_bot);
        out.extend_from_slice(b"\" \"");
        agent.append(out, client);
        out.push(b'"');
    }
}

/// Makes the line that begins at `start` one that has no status any more, in one of three ways.
fn damage(out: &mut Vec<u8>, start: usize, count: u64) {
    match count % 3 {
        // The writer was killed: cut in the middle of the time.
        0 => out.truncate(start + 24),
        // Two processes wrote at once: the rest of another message stands there.
        1 => {
            out.truncate(start);
            out.extend_from_slice(b"[notice] child pid 20331 exit signal Segmentation fault (11)");
        }
        // Cut in the middle of the request.
        _ => {
            let quote = out.iter().skip(start).position(|&byte| byte == b'"').unwrap_or(0);
            out.truncate(start + quote + 8);
        }
    }
}

/// Writes the first `records` lines of the log of `seed`.
///
/// # Errors
/// What the writer says.
pub fn write_lines(records: u64, seed: u64, mut out: impl Write) -> std::io::Result<()> {
    let mut log = AccessLog::new(seed);
    let mut block = Vec::with_capacity(BLOCK_BYTES + 4096);
    for _ in 0..records {
        log.append_line(&mut block);
        if block.len() >= BLOCK_BYTES {
            out.write_all(&block)?;
            block.clear();
        }
    }
    out.write_all(&block)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn lines(records: u64, seed: u64) -> Vec<String> {
        let mut bytes = Vec::new();
        write_lines(records, seed, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn log_same_seed_gives_same_bytes() {
        assert_eq!(lines(5_000, 7), lines(5_000, 7));
        assert_ne!(lines(50, 7), lines(50, 8));
    }

    /// Figures that were measured on the log stay comparable only as long as its bytes do not change.
    #[test]
    fn log_default_seed_keeps_its_bytes() {
        let mut bytes = Vec::new();
        write_lines(100_000, DEFAULT_SEED, &mut bytes).unwrap();
        let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(digest, "71b5d58f1fd3c7efdada269d4c3c15d03f3af60475395e948137b527b4de4062");
    }

    #[test]
    fn log_million_lines_has_seventeen_damaged() {
        let damaged = (0..1_000_000u64).filter(|line| line % DAMAGED_EVERY == DAMAGED_EVERY / 2).count();
        assert_eq!(damaged, 17);
    }

    #[test]
    fn log_hundred_thousand_lines_has_believable_mix() {
        let lines = lines(100_000, DEFAULT_SEED);
        let share = |found: &dyn Fn(&str) -> bool| {
            lines.iter().filter(|line| found(line)).count() * 1000 / lines.len()
        };
        let images = share(&|line| line.contains(" /images/"));
        let bots = share(&|line| line.contains("bot") || line.contains("spider"));
        let errors = share(&|line| line.contains("\" 500 ") || line.contains("\" 503 "));
        assert!((80..130).contains(&images), "{images} of 1000 lines are images");
        assert!((80..250).contains(&bots), "{bots} of 1000 lines are bots");
        assert!((1..30).contains(&errors), "{errors} of 1000 lines are server errors");
        assert!(lines.iter().any(|line| line.contains("\\\"")), "no escaped quote");
        let mean = lines.iter().map(String::len).sum::<usize>() / lines.len();
        assert!((180..300).contains(&mean), "mean length {mean}");
    }

    #[test]
    fn log_damaged_lines_have_no_status() {
        let lines = lines(DAMAGED_EVERY * 3, 1);
        let damaged: Vec<&String> = lines.iter().filter(|line| line.matches('"').count() < 6).collect();
        assert_eq!(damaged.len(), 3, "{damaged:?}");
    }
}
