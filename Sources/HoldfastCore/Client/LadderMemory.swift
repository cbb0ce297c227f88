import HoldfastProtocol
import NIOCore

/// What is known of WebSockets on the way to one server, worth keeping beyond this process. Times are of the machine's
/// clock.
///
/// As JSON it is one object, with all times and lengths of time in whole milliseconds, the same as that of the JavaScript
/// client.
public struct LadderMemory: Sendable, Equatable {
    /// When the last WebSockets were opened that were of no use, or have not proven it yet; in order.
    public var attempts: [Instant]
    /// WebSockets in a row that never answered, while the fallback works.
    public var strikes: Int
    /// The end of the verdict "blocked". It stands until a WebSocket has lived, also when it is over.
    public var until: Instant?
    /// Of the verdict.
    public var term: Span
    /// WebSockets in a row that died young.
    public var deaths: Int
    /// The shortest life of these.
    public var life: Span?
    /// No WebSocket before this, because of deaths.
    public var rest: Instant?
    /// No stream before this.
    public var pollUntil: Instant?

    /// Nothing is known.
    public init(
        attempts: [Instant] = [],
        strikes: Int = 0,
        until: Instant? = nil,
        term: Span = .seconds(3600),
        deaths: Int = 0,
        life: Span? = nil,
        rest: Instant? = nil,
        pollUntil: Instant? = nil
    ) {
        self.attempts = attempts
        self.strikes = strikes
        self.until = until
        self.term = term
        self.deaths = deaths
        self.life = life
        self.rest = rest
        self.pollUntil = pollUntil
    }

    /// Reads what was written by ``json()``. A member that makes no sense is not known; the machine cuts the others to
    /// what can be.
    /// - Returns: `nil` if it is no memory, or one of another version.
    public init?(parsing text: ByteBuffer) {
        guard let object = try? JSONObject(parsing: text), object["v"]?.double == 1 else { return nil }
        let number = { (name: String) in Self.number(object[name]) }
        let instant = { (name: String) in number(name).map { Instant(microseconds: $0 * 1000) } }
        let span = { (name: String) in number(name).map { Span(microseconds: $0 * 1000) } }
        let attempts = try? object["attempts"]?.elements(limit: Self.mostAttempts)
        self.init(
            attempts: (attempts ?? []).compactMap(Self.number).map { Instant(microseconds: $0 * 1000) },
            strikes: Int(number("strikes") ?? 0),
            until: instant("until"),
            deaths: Int(number("deaths") ?? 0),
            life: span("life"),
            rest: instant("rest"),
            pollUntil: instant("pollUntil")
        )
        if let term = span("term") { self.term = term }
    }

    /// Many more than are ever written.
    private static let mostAttempts = 1000
    /// In ms: 31,000 years, which can be added to any time.
    private static let farthest = 1e15

    private static func number(_ value: JSONValue?) -> Int64? {
        guard let number = value?.double else { return nil }
        return Int64(min(max(number, -Self.farthest), Self.farthest).rounded(.down))
    }

    /// To be kept, and to be read by ``init(parsing:)``.
    public func json() -> ByteBuffer {
        JSONWriter.object { json in
            json.member("v", 1)
            json.member(
                "attempts",
                array: { json in
                    for attempt in self.attempts {
                        json.element(number: Self.milliseconds(attempt.microseconds))
                    }
                })
            json.member("strikes", self.strikes)
            Self.write(self.until?.microseconds, as: "until", to: &json)
            Self.write(self.term.microseconds, as: "term", to: &json)
            json.member("deaths", self.deaths)
            Self.write(self.life?.microseconds, as: "life", to: &json)
            Self.write(self.rest?.microseconds, as: "rest", to: &json)
            Self.write(self.pollUntil?.microseconds, as: "pollUntil", to: &json)
        }
    }

    private static func write(_ microseconds: Int64?, as name: String, to json: inout JSONWriter) {
        guard let microseconds else { return json.memberNull(name) }
        json.member(name, number: Self.milliseconds(microseconds))
    }

    private static func milliseconds(_ microseconds: Int64) -> Double { (Double(microseconds) / 1000).rounded() }

    /// The same with the times of another clock, which shows `difference` more.
    public func shifted(by difference: Span) -> LadderMemory {
        var memory = self
        memory.attempts = self.attempts.map { $0 + difference }
        memory.until = self.until.map { $0 + difference }
        memory.rest = self.rest.map { $0 + difference }
        memory.pollUntil = self.pollUntil.map { $0 + difference }
        return memory
    }
}
