import NIOCore

/// What travels in one direction.
enum Parcel: Equatable {
    case bytes(ByteBuffer)
    case end(StreamEnd)

    var size: Int {
        switch self {
        case .bytes(let bytes): bytes.readableBytes
        case .end: 0
        }
    }
}

/// One direction of a slow line: how long everything takes, and how fast it comes. The order is kept, ends included.
///
/// Sans-IO: time and chance are arguments.
struct Shaper {
    struct Settings: Equatable {
        var latency: TimeAmount = .zero
        var jitter: TimeAmount = .zero
        /// Per second; 0: no bound.
        var bandwidth = 0
        /// At once; 0: no bound.
        var dripBytes = 0
        var dripInterval: TimeAmount = .zero
        var finDelay: TimeAmount = .zero

        static let none = Settings()
    }

    /// What waits for the line to have time for it.
    private var waiting: CircularBuffer<Parcel> = []
    /// Under way. One that would arrive before those ahead of it waits for them.
    private var travelling: CircularBuffer<(parcel: Parcel, due: NIODeadline)> = []
    /// When the line has time again.
    private var lineIsFreeAt = NIODeadline.distantPast
    private(set) var heldBytes = 0

    private(set) var settings: Settings
    /// Bytes beyond which nothing more should be added.
    private let limit: Int

    init(settings: Settings = .none, limit: Int) {
        self.settings = settings
        self.limit = limit
    }

    var isEmpty: Bool { self.waiting.isEmpty && self.travelling.isEmpty }

    /// Whether the near socket may be read. A slow line is not filled with more than it carries in a second: what waits
    /// here has left the sender, who should be the one that waits.
    var hasRoom: Bool { self.heldBytes < self.room }

    private var room: Int {
        guard let rate = self.settings.bytesPerSecond else { return self.limit }
        let seconds = 1 + Double(self.settings.latency.nanoseconds) / 1e9
        return min(self.limit, max(4_096, Int(Double(rate) * seconds)))
    }

    mutating func add(_ parcel: Parcel, now: NIODeadline) {
        if case .end(.reset) = parcel, case .end? = self.travelling.last?.parcel {
            // It overtakes a FIN that is delayed.
            self.travelling.removeLast()
        }
        if self.waiting.isEmpty {
            self.lineIsFreeAt = max(self.lineIsFreeAt, now)
        }
        self.heldBytes += parcel.size
        self.waiting.append(parcel)
    }

    /// What has arrived by `now`, one after the other until `nil`.
    mutating func next<Chance: RandomNumberGenerator>(now: NIODeadline, using chance: inout Chance) -> Parcel? {
        self.send(now: now, using: &chance)
        guard let first = self.travelling.first, first.due <= now else { return nil }
        self.travelling.removeFirst()
        self.heldBytes -= first.parcel.size
        return first.parcel
    }

    /// When ``next(now:using:)`` is to be asked again.
    var deadline: NIODeadline? {
        let arrival = self.travelling.first?.due
        let departure = self.waiting.isEmpty ? nil : self.lineIsFreeAt
        guard let arrival, let departure else { return arrival ?? departure }
        return min(arrival, departure)
    }

    /// What is under way keeps its time, unless the line is no longer slow: then it is there at once.
    mutating func settingsChanged(to settings: Settings, now: NIODeadline) {
        self.settings = settings
        self.lineIsFreeAt = min(self.lineIsFreeAt, now)
        guard settings == .none else { return }
        for index in self.travelling.indices {
            self.travelling[index].due = min(self.travelling[index].due, now)
        }
    }

    // MARK: The line

    private mutating func send<Chance: RandomNumberGenerator>(now: NIODeadline, using chance: inout Chance) {
        while !self.waiting.isEmpty, self.lineIsFreeAt <= now {
            // A bandwidth is made good when the timer was late; drips do not run together.
            let began = self.settings.dripBytes > 0 ? now : self.lineIsFreeAt
            let parcel = self.takePiece()
            var due = began + self.settings.latency(using: &chance)
            switch parcel {
            case .bytes(let bytes): self.lineIsFreeAt = began + self.settings.time(for: bytes.readableBytes)
            case .end(.finish): due = due + self.settings.finDelay
            case .end(.reset): break
            }
            self.travelling.append((parcel, due))
        }
    }

    /// As much as the line takes at a time.
    private mutating func takePiece() -> Parcel {
        let parcel = self.waiting.removeFirst()
        guard case .bytes(var bytes) = parcel, let size = self.settings.pieceSize, size < bytes.readableBytes else {
            return parcel
        }
        let piece = bytes.readSlice(length: size)!
        self.waiting.prepend(.bytes(bytes))
        return .bytes(piece)
    }
}

extension Shaper.Settings {
    /// On average.
    fileprivate var bytesPerSecond: Int? {
        if self.bandwidth > 0 { return self.bandwidth }
        guard self.dripBytes > 0, self.dripInterval > .zero else { return nil }
        return Int(Double(self.dripBytes) * 1e9 / Double(self.dripInterval.nanoseconds))
    }

    /// A bandwidth is served in pieces of a fiftieth of a second.
    fileprivate var pieceSize: Int? {
        if self.dripBytes > 0 { return self.dripBytes }
        return self.bandwidth > 0 ? max(1, self.bandwidth / 50) : nil
    }

    fileprivate func time(for bytes: Int) -> TimeAmount {
        if self.dripBytes > 0 { return self.dripInterval }
        guard self.bandwidth > 0 else { return .zero }
        return .nanoseconds(Int64(Double(bytes) / Double(self.bandwidth) * 1e9))
    }

    fileprivate func latency<Chance: RandomNumberGenerator>(using chance: inout Chance) -> TimeAmount {
        guard self.jitter > .zero else { return self.latency }
        let most = self.jitter.nanoseconds
        return .nanoseconds(max(0, self.latency.nanoseconds + Int64.random(in: -most...most, using: &chance)))
    }
}
