import NIOConcurrencyHelpers
import NIOCore

/// The last events of a proxy, for those who come later: the control server shows them.
public final class EventLog: Sendable {
    public struct Entry: Sendable, Encodable {
        /// From 1, without holes: who has seen one asks for those after it.
        public let number: Int
        /// Since the log began, in ms.
        public let at: Int64
        public let connection: Int?
        public let text: String

        /// As one line of a terminal.
        public var line: String {
            let seconds = String(self.at / 1_000)
            let millis = String(1_000 + self.at % 1_000).dropFirst()
            let time = String(repeating: " ", count: max(0, 5 - seconds.count)) + seconds + "." + millis
            return "\(time) s  \(self.connection.map { "#\($0) " } ?? "")\(self.text)"
        }

        private enum CodingKeys: String, CodingKey {
            case number
            case at = "at-ms"
            case connection
            case text
        }
    }

    /// Entries that are kept.
    public static let limit = 200

    private let began = NIODeadline.now()
    private let entries = NIOLockedValueBox<CircularBuffer<Entry>>([])

    public init() {}

    @discardableResult
    public func add(_ event: FaultProxy.Event) -> Entry {
        let at = (NIODeadline.now() - self.began).nanoseconds / 1_000_000
        return self.entries.withLockedValue { entries in
            let number = (entries.last?.number ?? 0) + 1
            let entry = Entry(number: number, at: at, connection: event.connection, text: event.text)
            entries.append(entry)
            if entries.count > Self.limit { entries.removeFirst() }
            return entry
        }
    }

    public func entries(after number: Int) -> [Entry] {
        self.entries.withLockedValue { entries in entries.filter { $0.number > number } }
    }
}
