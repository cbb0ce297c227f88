/// A moment as text: ISO 8601 in UTC with `+00:00` and microseconds, no fraction when they are zero (socketshark.md §8).
public enum Timestamp {
    /// - Parameter microseconds: since 1970-01-01T00:00:00Z.
    public static func text(microseconds: Int64) -> String {
        let (seconds, fraction) = microseconds.flooredDivision(by: 1_000_000)
        let (days, inDay) = seconds.flooredDivision(by: 86_400)
        let (year, month, day) = Self.date(days: days)
        var text = "\(Self.pad(year, 4))-\(Self.pad(month, 2))-\(Self.pad(day, 2))T"
        text += "\(Self.pad(inDay / 3600, 2)):\(Self.pad(inDay / 60 % 60, 2)):\(Self.pad(inDay % 60, 2))"
        if fraction != 0 { text += ".\(Self.pad(fraction, 6))" }
        return text + "+00:00"
    }

    /// Reads an ISO 8601 date or date with time and writes it as SocketShark does: `Z` becomes `+00:00`, a date gets
    /// `T00:00:00`, fractions become 6 digits or none, a text without zone stays without (socketshark.md §8).
    /// - Returns: `nil` if it is no such text.
    public static func reformatted(_ text: String) -> String? {
        guard text.utf8.count <= 64, let parts = text.wholeMatch(of: Self.pattern)?.output else { return nil }
        let (_, year, month, day, hour, minute, second, fraction, zone) = parts
        guard let yearNumber = Int(year), yearNumber > 0, let monthNumber = Int(month), (1...12).contains(monthNumber),
            (1...Self.days(inMonth: monthNumber, year: yearNumber)).contains(Int(day) ?? 0),
            Int(hour ?? "0") ?? 99 <= 23, Int(minute ?? "0") ?? 99 <= 59, Int(second ?? "0") ?? 99 <= 59,
            // The zone's hours and minutes, of `+05:30` or `+0530`; `Z` has none.
            Int(zone?.dropFirst().prefix(2) ?? "") ?? 0 <= 23, Int(zone?.dropFirst(3).suffix(2) ?? "") ?? 0 <= 59
        else { return nil }
        var result = "\(year)-\(month)-\(day)T\(hour ?? "00"):\(minute ?? "00"):\(second ?? "00")"
        if let fraction {
            let digits = (fraction + "000000").prefix(6)
            if digits != "000000" { result += ".\(digits)" }
        }
        if let zone {
            result +=
                zone == "Z" || zone == "z"
                ? "+00:00" : zone.contains(":") ? zone : "\(zone.prefix(3)):\(zone.dropFirst(3))"
        }
        return result
    }

    // A Regex is immutable, but not marked Sendable.
    private static nonisolated(unsafe) let pattern =
        /(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?([Zz]|[+-]\d\d:?\d\d)?)?/
        .asciiOnlyDigits()

    private static func days(inMonth month: Int, year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    private static func pad(_ number: Int64, _ width: Int) -> String {
        let digits = String(number)
        return digits.count >= width ? digits : String(repeating: "0", count: width - digits.count) + digits
    }

    /// Proleptic Gregorian date of a day counted from 1970-01-01. Years are taken to begin in March, so that the leap day is
    /// the last of its year.
    private static func date(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let (era, dayOfEra) = (days + 719_468).flooredDivision(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shifted + 2) / 5 + 1
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
    }
}

extension Int64 {
    fileprivate func flooredDivision(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
        let (quotient, remainder) = self.quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}
