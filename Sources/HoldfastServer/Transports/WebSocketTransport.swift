import HoldfastCore
import HoldfastProtocol
import NIOCore

/// One WebSocket: turns bytes into events for its session, and writes what the session hands it. Belongs to one event loop.
final class WebSocketTransport: SessionTransport {
    private enum State {
        case open
        /// A resume is being fetched from another loop; what the client says meanwhile waits in the parser.
        case paused
        /// A Close frame was sent; the peer's is awaited until the deadline.
        case closing(Instant)
        case closed
    }

    private var state = State.open
    private var parser: WebSocketParser
    private var liveness: ServerLiveness
    private var wire: (any WebSocketWire)?
    private var owedPong: ByteBuffer?
    /// Nothing is read until the peer has read what it was answered.
    private var isHeldBack = false
    /// When a client that has said nothing is let go; the session has a deadline of its own.
    private let authenticateBy: Instant?
    /// Why the transport was closed, for the metrics: a bounded set of words.
    private var closeLabel = "lost"

    init(shard: Shard, remote: String) {
        let configuration = shard.configuration
        self.parser = WebSocketParser(
            role: .server,
            maxFrameBytes: shard.limits.frameBytes,
            maxMessageBytes: shard.limits.messageBytes
        )
        let now = shard.now
        self.liveness = ServerLiveness(
            interval: .seconds(configuration.ping.interval),
            // A loop that is busy looks late: what it may lose is taken off beforehand, so that the time is kept.
            timeout: .seconds(configuration.ping.timeout - min(0.3, configuration.ping.timeout / 50)),
            now: now
        )
        let time = shard.limits.authenticationTime
        self.authenticateBy =
            time > 0 && configuration.everyServiceAsksForAuthentication ? now + .seconds(time) : nil
        super.init(.websocket, shard: shard, remote: remote, isWritable: true)
    }

    // MARK: The connection

    /// The handshake is done.
    func begin(on wire: any WebSocketWire) {
        self.wire = wire
        self.shard.add(self)
    }

    /// Nothing can be written any more.
    func wireGone() {
        self.ended(reason: "connection closed")
        self.wire = nil
    }

    func received(_ bytes: ByteBuffer) {
        self.liveness.heard(now: self.shard.now)
        self.parser.append(bytes)
        self.readMessages()
    }

    /// The connection is gone, or is of no use any more.
    func lost(_ reason: String) { self.ended(reason: reason) }

    func writabilityChanged(_ isWritable: Bool) {
        self.isWritable = isWritable
        guard isWritable else { return }
        if let payload = self.owedPong {
            self.owedPong = nil
            self.write(.pong, payload)
        }
        if self.isHeldBack {
            self.isHeldBack = false
            self.wire?.setReading(true)
        }
        guard let session = self.session, !session.queue.isEmpty else { return }
        self.shard.markDirty(session)
    }

    override func merged(_ events: [EncodedEvent], first count: Int, cache: inout MergeCache) -> ByteBuffer {
        cache.frames(events, first: count)
    }

    /// Writes whole frames and flushes.
    override func write(_ frames: ByteBuffer) {
        guard let wire = self.wire else { return }
        self.shard.metrics.flushes += 1
        self.shard.metrics.bytesWritten += frames.readableBytes
        wire.write(frames)
    }

    private func write(_ opcode: WebSocketOpcode, _ payload: ByteBuffer) {
        self.write(WebSocketFrame.unmasked(opcode, payload))
    }

    override func pause() {
        if case .open = self.state { self.state = .paused }
    }

    // MARK: Reading

    private func readMessages() {
        do throws(WebSocketError) {
            while case .open = self.state, let message = try self.parser.next() { self.receive(message) }
            if case .closing = self.state { try self.awaitClose() }
        } catch {
            if case .closing = self.state { return self.drop() }
            self.close(error.code, reason: error.reason)
            // A peer that breaks the rules is not waited for (RFC 6455 §7.1.7). Only our direction is closed, though: to close
            // both with unread bytes in the kernel would send a reset, which may overtake the Close frame.
            self.wire?.closeOutput()
        }
    }

    private func receive(_ message: WebSocketMessage) {
        switch message {
        case .text(let text) where self.shard.isEcho: self.answer(.text, text)
        case .binary(let bytes) where self.shard.isEcho: self.answer(.binary, bytes)
        case .text(let text), .binary(let text): self.receive(text)
        case .ping(let payload): self.answerPing(payload)
        case .pong(let payload):
            let bits = payload.readableBytes == 4 ? payload.getInteger(at: payload.readerIndex, as: UInt32.self) : nil
            guard let time = self.liveness.receivedPong(bits, now: self.shard.now) else { break }
            self.session?.roundTrips.answered(after: time)
            // The next Ping may be due before the answer to this one was.
            self.shard.setTimer(self)
        case .close(let code, let reason):
            self.answerClose(code, reason: reason)
        }
    }

    private func receive(_ text: ByteBuffer) {
        let event: ClientEvent
        do throws(ProtocolError) {
            event = try ClientEvent(parsing: text, limits: self.shard.limits.json)
        } catch {
            if let session = self.session { return session.receiveInvalid(text, error) }
            self.shard.countInvalid(text)
            return self.answer(ServerEvent.reply(ServerEvent.Reply(event: nil, error: error), dialect: .plain))
        }
        if let session = self.session { return session.receive(event) }
        switch event.name {
        case .probe: self.answer(ServerEvent.probe)
        case .hello: self.greet(event)
        default:
            guard let session = self.shard.openSession(.plain) else { return self.refuseForLimit(event) }
            session.attach(self)
            session.receive(event)
        }
    }

    // MARK: hello

    /// Answers before there is a session.
    private func answer(_ json: ByteBuffer) {
        self.answer(.text, json)
    }

    /// No queue bounds these. A peer that does not read its answers is not asked for more.
    private func answer(_ opcode: WebSocketOpcode, _ payload: ByteBuffer) {
        self.write(opcode, payload)
        guard !self.isWritable, !self.isHeldBack else { return }
        self.isHeldBack = true
        self.wire?.setReading(false)
    }

    /// A peer that does not read gets an answer to its last Ping only, as RFC 6455 §5.5.3 allows.
    private func answerPing(_ payload: ByteBuffer) {
        if self.isWritable {
            self.write(.pong, payload)
        } else {
            self.owedPong = ByteBuffer(bytes: payload.readableBytesView)
        }
    }

    private func greet(_ event: ClientEvent) {
        do throws(ProtocolError) {
            let hello = try ClientHello(event, limits: self.shard.limits.json)
            self.state = .paused
            let isWaiting = hello.resume != nil
            if isWaiting { self.wire?.setReading(false) }
            self.shard.greet(hello, on: self) {
                if case .paused = self.state { true } else { false }
            } completion: { greeting in
                self.state = .open
                if isWaiting { self.wire?.setReading(true) }
                switch greeting {
                case .session: break
                case .superseded: self.close(.sessionReplaced, reason: "session replaced by a newer transport")
                case .full: self.refuseForLimit(event)
                }
                // Further down the stack somebody reads already, unless the answer took time.
                if isWaiting { self.readMessages() }
            }
        } catch {
            self.answer(ServerEvent.reply(ServerEvent.Reply(event: "hello", error: error), dialect: .native))
        }
    }

    private func refuseForLimit(_ event: ClientEvent) {
        let limit = self.shard.limits.sessions
        let error = ProtocolError.tooManySessions(limit: limit)
        let dialect = event.name == .hello ? Dialect.native : .plain
        self.answer(ServerEvent.reply(ServerEvent.Reply(event: event.name.text, error: error), dialect: dialect))
        self.close(.rateLimited, reason: "the gateway has as many sessions as it may have")
    }

    // MARK: Closing

    /// Sends a Close frame and waits for the peer's, for as long as the configuration says.
    override func close(_ code: CloseCode, reason: String) {
        switch self.state {
        case .open, .paused: break
        case .closing, .closed: return
        }
        self.closeLabel = "gateway_\(code)"
        self.session?.transportClosed(self, reason: "\(code): \(reason)")
        // A slow consumer needs time to read what is before the Close frame.
        let factor = code == .slowConsumer ? 6.0 : 1.0
        self.state = .closing(self.shard.now + .seconds(self.shard.limits.closeTime * factor))
        self.write(.close, WebSocketFrame.closePayload(code, reason: reason))
        self.shard.setTimer(self)
    }

    /// After our Close frame: everything but the peer's Close frame is ignored (RFC 6455 §7.1.1).
    private func awaitClose() throws(WebSocketError) {
        while let message = try self.parser.next() {
            if case .close = message { self.drop() }
        }
    }

    /// The client has sent a Close frame: echo its code (RFC 6455 §5.5.1), then close the connection first (§7.1.1).
    private func answerClose(_ code: CloseCode?, reason: String) {
        self.closeLabel = "client"
        let with = code.map { " with \($0)" } ?? ""
        self.session?.transportClosed(self, reason: "closed by the client\(with)\(reason.isEmpty ? "" : ": \(reason)")")
        // A peer that does not read its own answer is let go at the deadline.
        self.state = .closing(self.shard.now + .seconds(self.shard.limits.closeTime))
        self.shard.setTimer(self)
        let payload = code.map { WebSocketFrame.closePayload($0, reason: "") } ?? ByteBuffer()
        self.wire?.write(WebSocketFrame.unmasked(.close, payload)) { self.drop() }
    }

    override func drop() {
        self.ended(reason: "connection dropped")
        self.wire?.close()
    }

    /// The transport carries nothing any more.
    private func ended(reason: String) {
        if case .closed = self.state { return }
        self.state = .closed
        self.leave(reason: reason, label: self.closeLabel)
    }

    // MARK: Time

    override var deadline: Instant? {
        switch self.state {
        case .open, .paused:
            guard let authenticateBy = self.authenticateBy, self.session == nil else { return self.liveness.deadline }
            return min(authenticateBy, self.liveness.deadline ?? authenticateBy)
        case .closing(let deadline): return deadline
        case .closed: return nil
        }
    }

    override func timerFired(now: Instant) {
        switch self.state {
        case .closed: return
        case .closing(let deadline):
            if now >= deadline { self.drop() }
        case .open, .paused:
            if let authenticateBy = self.authenticateBy, self.session == nil, now >= authenticateBy {
                return self.close(.authenticationExpired, reason: "not authenticated in time")
            }
            switch self.liveness.timerFired(now: now, random: self.shard.randomBits) {
            case .wait: break
            case .sendPing(let bits):
                self.session?.roundTrips.pingSent()
                self.shard.metrics.pingsSent += 1
                self.write(.ping, ByteBuffer(integer: bits))
            case .drop:
                self.session?.roundTrips.pingLost()
                self.shard.metrics.pingsLost += 1
                // Whichever direction died, the other may still carry the reason. No handshake: nobody may be there.
                self.close(.heartbeatTimeout, reason: "no answer to a ping")
                self.drop()
            }
        }
    }
}
