import HoldfastCore
import HoldfastProtocol
import NIOCore

/// The answer to `GET /session/{id}/stream`: an event stream (WHATWG HTML §9.2) that does not end.
final class StreamTransport: SessionTransport {
    private let exchange: SessionExchange
    private let interval: Span
    private var lastWrite: Instant
    private var isOpen = true

    /// A comment, which says that the line lives. The first one tells the client that nothing in between holds bytes back.
    private static let comment = ByteBuffer(string: ": holdfast\n\n")

    init(_ exchange: SessionExchange, shard: Shard) {
        self.exchange = exchange
        self.lastWrite = shard.now
        self.interval = .seconds(shard.configuration.heartbeat.interval)
        super.init(.stream, shard: shard, remote: exchange.remote, isWritable: true)
        shard.add(self)
        exchange.begin(self, Self.comment)
    }

    override func merged(_ events: [EncodedEvent], first count: Int, cache: inout MergeCache) -> ByteBuffer {
        cache.stream(events, first: count)
    }

    override func write(_ text: ByteBuffer) {
        self.shard.metrics.flushes += 1
        self.shard.metrics.bytesWritten += text.readableBytes
        self.lastWrite = self.shard.now
        self.exchange.write(text)
    }

    func writabilityChanged(_ isWritable: Bool) {
        self.isWritable = isWritable && self.isOpen
        guard self.isWritable, let session = self.session, !session.queue.isEmpty else { return }
        self.shard.markDirty(session)
    }

    override func pause() { self.isWritable = false }

    override func close(_ code: CloseCode, reason: String) {
        guard self.isOpen else { return }
        self.ended(reason: "\(code): \(reason)", label: "gateway_\(code)")
        var last = ByteBuffer(string: "event: close\ndata: ")
        last.writeImmutableBuffer(JSONWriter.object { $0.closeWord(code, reason) })
        last.writeString("\n\n")
        self.exchange.end(last)
    }

    override func drop() {
        guard self.isOpen else { return }
        self.ended(reason: "stream dropped", label: "lost")
        self.exchange.end(nil)
    }

    func connectionEnded(reason: String) { self.ended(reason: reason, label: "lost") }

    private func ended(reason: String, label: String) {
        guard self.isOpen else { return }
        self.isOpen = false
        self.isWritable = false
        self.leave(reason: reason, label: label)
    }

    // MARK: Time

    override var deadline: Instant? { self.isOpen ? self.lastWrite + self.interval : nil }

    override func timerFired(now: Instant) {
        // What waits in the channel is a sign of life, too.
        if self.isWritable { self.exchange.write(Self.comment) }
        self.lastWrite = now
    }
}

extension JSONWriter {
    /// The server's last word on a transport that has no Close frame.
    mutating func closeWord(_ code: CloseCode, _ reason: String) {
        self.member("code", UInt64(code.rawValue))
        self.member("reason", reason)
    }
}
