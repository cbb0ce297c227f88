import DequeModule

/// What was sent and is not yet counted by the server (repeated after a resume), and what has no reply yet (repeated in a
/// new session). A command takes room until it is neither.
struct ClientOutbox {
    private struct Kept {
        let command: ClientCommand
        var isUnacknowledged = false
        var isUnanswered = false
    }

    /// In bytes of JSON text.
    let limit: Int
    private(set) var bytes = 0
    /// What the server has perhaps yet to receive.
    private(set) var unacknowledgedBytes = 0
    /// Events of this session that the server has counted.
    private(set) var acknowledged: UInt64 = 0
    private var kept: [UInt64: Kept] = [:]
    /// Serials of the events number acknowledged+1, +2, … of this session.
    private var unacknowledgedSerials = Deque<UInt64>()
    private var unanswered: [String: UInt64] = [:]

    init(limit: Int) {
        self.limit = limit
    }

    /// How many events this session has.
    var posted: UInt64 { self.acknowledged + UInt64(self.unacknowledgedSerials.count) }
    var unacknowledgedCount: Int { self.unacknowledgedSerials.count }
    var unansweredCount: Int { self.unanswered.count }

    /// In the order in which the session counts them.
    var unacknowledged: [ClientCommand] { self.unacknowledgedSerials.compactMap { self.kept[$0]?.command } }

    func hasRoom(for command: ClientCommand) -> Bool { command.bytes <= self.limit - self.bytes }

    /// Awaits the reply.
    mutating func awaitAnswer(to command: ClientCommand) {
        guard let id = command.id else { return }
        self.keep(command) { $0.isUnanswered = true }
        self.unanswered[id] = command.serial
    }

    /// Counts it into the session.
    /// - Parameter first: before all that is not acknowledged.
    mutating func post(_ command: ClientCommand, first: Bool = false) {
        self.keep(command) { $0.isUnacknowledged = true }
        self.unacknowledgedBytes += command.bytes
        if first {
            self.unacknowledgedSerials.prepend(command.serial)
        } else {
            self.unacknowledgedSerials.append(command.serial)
        }
    }

    /// - Parameter received: the server's count; `nil` for something that is no count.
    /// - Returns: `false` if the count cannot be.
    mutating func acknowledge(_ received: UInt64?) -> Bool {
        guard let received, received >= self.acknowledged,
            received - self.acknowledged <= UInt64(self.unacknowledgedSerials.count)
        else { return false }
        for _ in 0..<(received - self.acknowledged) {
            self.releaseAcknowledged(self.unacknowledgedSerials.removeFirst())
        }
        self.acknowledged = received
        return true
    }

    /// The reply has come. - Returns: the command, if one with this `id` was waiting for it.
    mutating func answer(_ id: String) -> ClientCommand? {
        guard let serial = self.unanswered.removeValue(forKey: id), let command = self.kept[serial]?.command else {
            return nil
        }
        self.release(serial) { $0.isUnanswered = false }
        return command
    }

    /// Takes a message out that the server will not have. Those after it move up: it was never counted.
    mutating func removeBiggestMessage() -> ClientCommand? {
        var biggest: ClientCommand?
        for serial in self.unacknowledgedSerials {
            guard let kept = self.kept[serial], kept.isUnanswered, kept.command.kind == .message else { continue }
            if kept.command.bytes > biggest?.bytes ?? 0 { biggest = kept.command }
        }
        guard let biggest, let id = biggest.id else { return nil }
        self.unacknowledgedSerials.removeAll { $0 == biggest.serial }
        self.releaseAcknowledged(biggest.serial)
        return self.answer(id)
    }

    /// A new session counts from nought.
    /// - Returns: what has no reply, in order.
    mutating func restart() -> [ClientCommand] {
        for serial in self.unacknowledgedSerials { self.releaseAcknowledged(serial) }
        self.unacknowledgedSerials.removeAll()
        self.acknowledged = 0
        return self.unanswered.values.sorted().compactMap { self.kept[$0]?.command }
    }

    private mutating func keep(_ command: ClientCommand, _ change: (inout Kept) -> Void) {
        if self.kept[command.serial] == nil { self.bytes += command.bytes }
        change(&self.kept[command.serial, default: Kept(command: command)])
    }

    private mutating func releaseAcknowledged(_ serial: UInt64) {
        self.unacknowledgedBytes -= self.kept[serial]?.command.bytes ?? 0
        self.release(serial) { $0.isUnacknowledged = false }
    }

    private mutating func release(_ serial: UInt64, _ change: (inout Kept) -> Void) {
        guard var kept = self.kept[serial] else { return }
        change(&kept)
        if kept.isUnacknowledged || kept.isUnanswered {
            self.kept[serial] = kept
        } else {
            self.kept[serial] = nil
            self.bytes -= kept.command.bytes
        }
    }
}
