//! What the visitors of the generated site ask for, where they come from and what they call themselves.
//!
//! All names are made up or generic; addresses of sites are of the reserved `example` domains.

use super::draw::{self, Draw};

/// What kind of thing a path leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Page,
    Asset,
    Image,
    Feed,
    Api,
    Download,
    Missing,
}

impl Kind {
    pub(super) fn status(self, draw: &mut Draw) -> u64 {
        let roll = draw.below(1000);
        match (self, roll) {
            (Kind::Missing, 0..20) => 403,
            (Kind::Missing, _) => 404,
            (Kind::Download, 0..250) => 206,
            (Kind::Asset | Kind::Image | Kind::Feed, 0..90) => 304,
            (Kind::Page, 0..25) => 301,
            (Kind::Api, 0..12) => 401,
            (Kind::Api, 12..20) => 429,
            (_, 990..995) => 500,
            (_, 995..997) => 503,
            _ => 200,
        }
    }

    /// Bytes of the answer: the same resource always has the same size.
    pub(super) fn size(self, resource: u64) -> u64 {
        match self {
            Kind::Page => 4_000 + resource % 60_000,
            Kind::Asset => 900 + resource % 90_000,
            Kind::Image => 2_000 + resource % 400_000,
            Kind::Feed => 14_000 + resource % 30_000,
            Kind::Api => 60 + resource % 4_000,
            Kind::Download => 1_000_000 + resource % 80_000_000,
            Kind::Missing => 290,
        }
    }
}

const PAGES: &[&str] = &[
    "/",
    "/blog/",
    "/projects/",
    "/about",
    "/articles/dynamic-dns-with-dhcp/",
    "/articles/ssh-security/",
    "/blog/geekery/ssl-latency.html",
    "/blog/geekery/debugging-java-performance.html",
    "/projects/keynav/",
    "/blog/geekery/disabling-battery-in-ubuntu-vms.html",
    "/articles/week-of-unix-tools/",
    "/contact",
    "/presentations/logging-at-scale/",
    "/presentations/unix-tools/",
    "/projects/grok/",
    "/misc/notes.html",
    "/blog/geekery/jquery-interface-puffer.html",
    "/articles/openldap-with-saslauthd/",
    "/archive/2024/",
    "/archive/2025/",
    "/search",
    "/login",
    "/articles/ppp-over-ssh/",
    "/blog/productivity/better-meetings.html",
];
const TAGS: &[&str] = &[
    "puppet",
    "linux",
    "firefox",
    "unix",
    "scaling",
    "python",
    "ruby",
    "logging",
    "monitoring",
    "year%20review",
    "hacks",
    "music",
    "travel",
    "postgres",
    "webassembly",
    "rust",
    "zstd",
];
const ASSETS: &[&str] = &[
    "/favicon.ico",
    "/style2.css",
    "/reset.css",
    "/robots.txt",
    "/js/site.js",
    "/js/highlight.min.js",
    "/css/print.css",
    "/fonts/inter.woff2",
    "/sitemap.xml",
    "/presentations/plugin/notes/notes.js",
    "/presentations/plugin/zoom-js/zoom.js",
    "/presentations/css/theme/default.css",
    "/apple-touch-icon.png",
];
const IMAGES: &[&str] = &[
    "/images/portrait-80.png",
    "/images/web/2009/banner.png",
    "/images/searchdotcom.png",
    "/images/logo.svg",
    "/images/photos/2025/harbour.jpg",
    "/images/diagrams/pipeline.png",
    "/images/icons/rss.png",
    "/images/photos/2024/snow.jpg",
];
const FEEDS: &[&str] = &["/?flav=rss20", "/blog/tags/puppet?flav=rss20", "/?flav=atom", "/feed.xml"];
const DOWNLOADS: &[&str] =
    &["/files/grok-2.0.1.tar.gz", "/files/keynav-latest.tar.gz", "/files/slides/logging-at-scale.pdf"];
const MISSING: &[&str] = &[
    "/wp-login.php",
    "/xmlrpc.php",
    "/.env",
    "/admin/config.php",
    "/phpmyadmin/index.php",
    "/old/index.shtml",
    "/cgi-bin/test.cgi",
    "/.git/config",
];
const ENDPOINTS: &[&str] =
    &["/api/v1/comments", "/api/v1/search", "/api/v1/likes", "/api/v2/events", "/api/v1/users"];
const SEARCHES: &[&str] = &[
    "how+to+parse+access+logs",
    "dynamic+dns+dhcp",
    "ssh+%22security%22+tips",
    "xdotool+examples",
    "zstd+level",
    "ssl+latency",
    "wasm+plugins",
    "unix+tools",
];

/// Appends a path with its query and says what it leads to.
pub(super) fn append_path(out: &mut Vec<u8>, draw: &mut Draw, is_bot: bool) -> Kind {
    let roll = draw.below(1000);
    // Bots read pages, seldom what belongs to them.
    let roll = if is_bot && roll < 330 && !draw.one_in(4) { 330 + roll } else { roll };
    match roll {
        0..117 => {
            if draw.one_in(3) {
                out.extend_from_slice(b"/images/gallery/");
                draw::append_number(out, 1 + draw.skewed(9_000));
                out.extend_from_slice(b".jpg");
            } else {
                append(out, draw.pick_skewed(IMAGES));
            }
            Kind::Image
        }
        117..330 => {
            append(out, draw.pick_skewed(ASSETS));
            if draw.one_in(6) {
                out.extend_from_slice(b"?v=");
                draw::append_number(out, 100 + draw.skewed(40));
            }
            Kind::Asset
        }
        330..400 => {
            append(out, draw.pick_skewed(FEEDS));
            Kind::Feed
        }
        400..510 => {
            append(out, draw.pick(ENDPOINTS));
            out.push(b'/');
            draw::append_number(out, draw.skewed(2_000_000));
            if draw.one_in(2) {
                out.extend_from_slice(b"?page=");
                draw::append_number(out, 1 + draw.skewed(50));
                out.extend_from_slice(b"&limit=25");
            }
            Kind::Api
        }
        510..530 => {
            append(out, draw.pick_skewed(DOWNLOADS));
            Kind::Download
        }
        530..555 => {
            append(out, draw.pick(MISSING));
            Kind::Missing
        }
        555..700 => {
            out.extend_from_slice(b"/blog/tags/");
            append(out, draw.pick_skewed(TAGS));
            Kind::Page
        }
        700..760 => {
            out.extend_from_slice(b"/archive/");
            draw::append_number(out, 2012 + draw.below(14));
            out.push(b'/');
            draw::append_number(out, 1 + draw.below(12));
            out.extend_from_slice(b"/entry-");
            draw::append_number(out, 1 + draw.skewed(4_000));
            out.extend_from_slice(b".html");
            Kind::Page
        }
        760..790 => {
            out.extend_from_slice(b"/search?q=");
            append(out, draw.pick(SEARCHES));
            Kind::Page
        }
        _ => {
            append(out, draw.pick_skewed(PAGES));
            Kind::Page
        }
    }
}

/// Appends where the visitor came from, `-` when that is not said.
pub(super) fn append_referrer(out: &mut Vec<u8>, draw: &mut Draw, kind: Kind, is_bot: bool) {
    let is_part_of_page = matches!(kind, Kind::Asset | Kind::Image | Kind::Api);
    let silent = if is_bot {
        950
    } else if is_part_of_page {
        90
    } else {
        420
    };
    match draw.below(1000) {
        roll if roll < silent => out.push(b'-'),
        roll if is_part_of_page || roll % 3 != 0 => {
            out.extend_from_slice(b"https://www.blog.example");
            append(out, draw.pick_skewed(PAGES));
        }
        _ if draw.one_in(60) => {
            // What Apache makes of a quote and of bytes that are not printable.
            out.extend_from_slice(b"http://\\xe4\\xe5\\xe3.example/find?q=\\\"");
            append(out, draw.pick(TAGS));
            out.extend_from_slice(b"\\\"");
        }
        _ => {
            out.extend_from_slice(b"https://www.search.example/search?q=");
            append(out, draw.pick(SEARCHES));
            out.extend_from_slice(b"&source=web&cd=");
            draw::append_number(out, 1 + draw.skewed(30));
        }
    }
}

fn append(out: &mut Vec<u8>, word: &str) {
    out.extend_from_slice(word.as_bytes());
}

/// A client's program: what stands before and after its version.
pub(super) struct Agent {
    before: &'static str,
    after: &'static str,
    /// Newest major version; a client has one of the six before it. 0 = the name holds no version.
    version: u64,
    pub(super) is_bot: bool,
}

impl Agent {
    pub(super) fn append(&self, out: &mut Vec<u8>, client: u64) {
        append(out, self.before);
        if self.version > 0 {
            draw::append_number(out, self.version - draw::mix(client) % 6);
        }
        append(out, self.after);
    }
}

/// The agent of a client, always the same one.
pub(super) fn agent_of(client: u64) -> &'static Agent {
    let random = draw::mix(client.wrapping_mul(31).wrapping_add(7));
    let agents = if random % 1000 < BOT_CLIENTS_PER_MILLE { BOTS } else { PROGRAMS };
    let index = usize::try_from((random >> 32) % agents.len() as u64).unwrap_or(0);
    agents.get(index).unwrap_or(&CURL)
}

const BOT_CLIENTS_PER_MILLE: u64 = 140;

const fn agent(before: &'static str, version: u64, after: &'static str) -> Agent {
    Agent { before, after, version, is_bot: false }
}

const fn bot(before: &'static str, after: &'static str) -> Agent {
    Agent { before, after, version: 0, is_bot: true }
}

const CURL: Agent = agent("curl/8.", 14, ".0");

const PROGRAMS: &[Agent] = &[
    agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
        144,
        ".0.0.0 Safari/537.36",
    ),
    agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
        143,
        ".0.0.0 Safari/537.36",
    ),
    agent(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
        144,
        ".0.0.0 Safari/537.36",
    ),
    agent(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
        144,
        ".0.0.0 Safari/537.36",
    ),
    agent("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:146.0) Gecko/20100101 Firefox/", 146, ".0"),
    agent("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/", 146, ".0"),
    agent(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/",
        26,
        ".1 Safari/605.1.15",
    ),
    agent(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/",
        26,
        ".1 Mobile/15E148 Safari/604.1",
    ),
    agent(
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
        144,
        ".0.0.0 Mobile Safari/537.36",
    ),
    agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/144.0.0.0 Safari/537.36 Edg/",
        144,
        ".0.0.0",
    ),
    agent("UniversalFeedReader/", 12, ".2 +https://feeds.example/"),
    agent("Tiny Reader/", 25, ".11 (https://reader.example/)"),
    agent("Ops \\\"Health\\\" Probe/", 9, ".2 (+https://ops.example/about)"),
    CURL,
    agent("-", 0, ""),
];

const BOTS: &[Agent] = &[
    bot("Mozilla/5.0 (compatible; Examplebot/2.1; ", "+http://www.search.example/bot.html)"),
    bot(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ",
        "bingobot/2.0; +http://www.bingo.example/bot.htm) Chrome/144.0.0.0 Safari/537.36",
    ),
    bot("Mozilla/5.0 (compatible; Widespider/2.0; ", "+http://www.wide.example/search/spider.html)"),
    bot("msgbot/2.0b ", "(+http://search.msg.example/msgbot.htm)"),
    bot("Mozilla/5.0 (compatible; archive_bot ", "+http://www.archive.example/details/archive_bot)"),
    bot("Sogospider/1.0 ", "(+http://sogo.example/help)"),
];
