//! Time zones by name.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::wire::Refusal;

/// A zone of the IANA database as it was when this was built, so that the system's files have no say. None and the empty
/// name are UTC.
///
/// # Errors
/// `InvalidArgumentException`: there is no such zone.
pub fn time_zone(name: Option<&str>) -> Result<TimeZone, Refusal> {
    match name {
        None | Some("" | "UTC") => Ok(TimeZone::UTC),
        Some(name) => TimeZoneDatabase::bundled().get(name).map_err(|_| {
            let shown: String = name.chars().take(64).collect();
            Refusal::invalid(format!(
                "CustomTimeZone {shown:?} is no time zone, expected a name such as Europe/Berlin"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_by_their_names() {
        assert_eq!(time_zone(None).unwrap(), TimeZone::UTC);
        assert_eq!(time_zone(Some("")).unwrap(), TimeZone::UTC);
        assert_eq!(time_zone(Some("Asia/Tokyo")).unwrap().iana_name(), Some("Asia/Tokyo"));
        assert!(
            time_zone(Some("Mars/Olympus")).unwrap_err().message.contains("\"Mars/Olympus\" is no time zone")
        );
    }
}
