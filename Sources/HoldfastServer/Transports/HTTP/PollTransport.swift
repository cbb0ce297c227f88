import HoldfastCore
import HoldfastProtocol
import NIOCore

/// Carries a session from poll to poll. Belongs to the session's loop; the connections that the polls come over need not.
///
/// Between two polls what comes waits in the session's queue.
final class PollTransport: SessionTransport {
    /// What the answer to an outstanding request looks like.
    enum Form {
        /// `[...]`: that of `POST /session`.
        case opening
        /// `{"events":[...]}`
        case poll
    }

    private struct Outstanding {
        let exchange: SharedExchange
        /// Tells polls of a session apart, whatever loop they are on.
        let ticket: UInt64
        let form: Form
        let until: Instant
    }

    private var outstanding: Outstanding?
    private var idleSince: Instant
    private var isOpen = true
    /// For what is to be said to a poll that comes when the session is over.
    private var name: SessionName?

    init(shard: Shard, remote: String) {
        self.idleSince = shard.now
        super.init(.poll, shard: shard, remote: remote, isWritable: false)
        shard.add(self)
    }

    /// A request that waits for events. One that waits already is answered that it has been replaced.
    func wait(_ exchange: SharedExchange, ticket: UInt64, _ form: Form, until: Instant) {
        self.refuseOutstanding()
        self.outstanding = Outstanding(exchange: exchange, ticket: ticket, form: form, until: until)
        self.isWritable = true
        self.shard.setTimer(self)
    }

    /// The connection of an outstanding request is gone.
    func requestGone(_ ticket: UInt64) {
        guard self.outstanding?.ticket == ticket else { return }
        self.idle()
    }

    /// The client has said something on another request.
    func touch() { self.idleSince = self.shard.now }

    private func idle() {
        self.outstanding = nil
        self.isWritable = false
        self.idleSince = self.shard.now
        self.shard.setTimer(self)
    }

    // MARK: Answers

    override func merged(_ events: [EncodedEvent], first count: Int, cache: inout MergeCache) -> ByteBuffer {
        cache.array(events, first: count)
    }

    override func write(_ elements: ByteBuffer) {
        guard let outstanding = self.outstanding else { return }
        self.name = self.session?.name
        self.shard.metrics.flushes += 1
        self.shard.metrics.bytesWritten += elements.readableBytes
        self.idle()
        self.answer(outstanding, elements)
    }

    private static let opening = (before: ByteBuffer(string: "["), after: ByteBuffer(string: "]"))
    private static let poll = (before: ByteBuffer(string: "{\"events\":["), after: ByteBuffer(string: "]}"))

    private func answer(_ outstanding: Outstanding, _ elements: ByteBuffer, after: ByteBuffer? = nil) {
        let brackets = outstanding.form == .opening ? Self.opening : Self.poll
        let pieces = [brackets.before, elements, after ?? brackets.after]
        outstanding.exchange.on { $0.answer(.ok, pieces) }
    }

    private func refuseOutstanding() {
        guard let outstanding = self.outstanding else { return }
        self.outstanding = nil
        outstanding.exchange.on { $0.refuse(.conflict, .replaced) }
    }

    // MARK: Closing

    override func pause() { self.isWritable = false }

    override func close(_ code: CloseCode, reason: String) {
        guard self.isOpen else { return }
        let outstanding = self.outstanding
        if code == .sessionReplaced {
            self.refuseOutstanding()
        } else if let outstanding, outstanding.form == .poll {
            var after = ByteBuffer(string: "],\"close\":")
            after.writeImmutableBuffer(JSONWriter.object { $0.closeWord(code, reason) })
            after.writeString("}")
            self.answer(outstanding, ByteBuffer(), after: after)
        } else if let outstanding {
            outstanding.exchange.on { $0.refuse(.serviceUnavailable, ProtocolError(reason, code: "closed")) }
        } else if let name = self.session?.name ?? self.name {
            self.shard.gateway.registry.remember(
                LastWord(name: name, code: code, reason: reason), limit: self.shard.limits.endedSessions)
        }
        self.ended(reason: "\(code): \(reason)", label: "gateway_\(code)")
    }

    override func drop() {
        self.refuseOutstanding()
        self.ended(reason: "poll dropped", label: "lost")
    }

    private func ended(reason: String, label: String) {
        guard self.isOpen else { return }
        self.isOpen = false
        self.isWritable = false
        self.outstanding = nil
        self.leave(reason: reason, label: label)
    }

    // MARK: Time

    override var deadline: Instant? {
        guard self.isOpen else { return nil }
        return self.outstanding?.until ?? self.idleSince + .seconds(max(5, self.shard.configuration.sessionTTL))
    }

    override func timerFired(now: Instant) {
        guard let outstanding = self.outstanding else {
            self.session?.abandoned()
            return self.ended(reason: "no poll came", label: "lost")
        }
        self.idle()
        self.answer(outstanding, ByteBuffer())
    }
}

/// Why a session ended while no poll was there to be told; the next one is.
struct LastWord: Sendable {
    let name: SessionName
    let code: CloseCode
    let reason: String
}
