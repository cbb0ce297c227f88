import NIOCore

/// One connection through the proxy: two sockets and a ``Pipe`` for each direction. Loop-bound.
final class Relay {
    private enum Upstream {
        /// Accepted on a line that was cut, in whatever direction: the client's SYN is lost, and will be sent again.
        case notConnected
        case connecting
        case open
        case gone
    }

    private let core: ProxyCore
    private let acceptedAt = NIODeadline.now()
    private var cut = Cut.none
    private var nextSYN: Scheduled<Void>?
    private var client: RelayHandler?
    private var server: RelayHandler?
    /// Of a socket that is not open yet.
    private var opening: RelayHandler?
    private var upstream: Upstream = .notConnected
    private var toServer: Pipe
    private var toClient: Pipe

    private var clientEnded = false
    private var serverEnded = false
    private var lostAnEnd = false
    private var isFinished = false
    private var ghost: Scheduled<Void>?

    init(core: ProxyCore) {
        self.core = core
        self.toServer = Pipe(line: .holds, farIsOpen: false)
        self.toClient = Pipe(line: .whole, farIsOpen: true)
    }

    // MARK: Facts from the sockets

    func opened(_ side: Side, _ handler: RelayHandler) {
        switch side {
        case .client:
            self.client = handler
            guard self.core.admit(self) else {
                handler.reset()
                return
            }
            self.cut = self.core.cutOfNewConnections
            if self.cut.directions.isEmpty {
                self.connect()
            }
        case .server:
            self.server = handler
            self.opening = nil
            self.upstream = .open
            self.perform(self.toServer.farOpened(), on: .toServer)
        }
    }

    func opening(_ handler: RelayHandler) {
        guard !self.isFinished else { return handler.close() }
        self.opening = handler
    }

    func connectFailed() {
        guard !self.isFinished else { return }
        self.opening = nil
        self.upstream = .gone
        self.ended(.reset, from: .server)
        self.perform(self.toServer.farGone(), on: .toServer)
        self.finishIfOver()
    }

    func received(_ bytes: ByteBuffer, from side: Side) {
        switch side {
        case .client: self.perform(self.toServer.received(bytes), on: .toServer)
        case .server: self.perform(self.toClient.received(bytes), on: .toClient)
        }
    }

    func readComplete(from side: Side) {
        self.far(of: side)?.flush()
    }

    func writabilityChanged(of side: Side) {
        self.far(of: side)?.resumeReading()
    }

    func mayRead(from side: Side) -> Bool {
        let farIsWritable = self.far(of: side)?.isWritable ?? false
        return switch side {
        case .client: self.toServer.mayRead(farIsWritable: farIsWritable)
        case .server: self.toClient.mayRead(farIsWritable: farIsWritable)
        }
    }

    func ended(_ end: StreamEnd, from side: Side) {
        guard !self.isFinished else { return }
        if side == .client, case .notConnected = self.upstream {
            // It has given up before there was a connection. The server never hears of it.
            return self.finish()
        }
        switch side {
        case .client:
            self.clientEnded = true
            self.perform(self.toServer.ended(end), on: .toServer)
        case .server:
            self.serverEnded = true
            self.perform(self.toClient.ended(end), on: .toClient)
        }
        self.finishIfOver()
    }

    /// The socket is gone. ``ended(_:from:)`` has been told before, unless it was closed from here.
    func closed(_ side: Side) {
        switch side {
        case .client:
            self.client = nil
            self.perform(self.toClient.farGone(), on: .toClient)
        case .server:
            self.server = nil
            self.upstream = .gone
            self.perform(self.toServer.farGone(), on: .toServer)
        }
        self.finishIfOver()
    }

    // MARK: Facts from the control

    func cut(_ cut: Cut) {
        guard !self.isFinished else { return }
        self.cut = cut
        if case .notConnected = self.upstream {
            return self.awaitNextSYN()
        }
        self.perform(self.toServer.lineChanged(to: cut.line(.toServer)), on: .toServer)
        self.perform(self.toClient.lineChanged(to: cut.line(.toClient)), on: .toClient)
        self.client?.resumeReading()
        self.server?.resumeReading()
    }

    func shutdown() {
        self.finish()
    }

    // MARK: Doing it

    private func far(of side: Side) -> RelayHandler? {
        switch side {
        case .client: self.server
        case .server: self.client
        }
    }

    private func target(_ direction: Directions) -> RelayHandler? {
        direction == .toServer ? self.server : self.client
    }

    private func connect() {
        self.upstream = .connecting
        // Now it is a connection like any other: what is cut later, cuts it.
        self.cut(self.cut)
        self.core.connect(for: self)
    }

    /// The client's kernel believes that it is connected, so it will not send its SYN again: done for it, when it would.
    private func awaitNextSYN() {
        self.nextSYN?.cancel()
        self.nextSYN = nil
        let age = NIODeadline.now() - self.acceptedAt
        let repeats = self.core.configuration.synRepeats
        guard self.cut.directions.isEmpty, let next = repeats.first(where: { $0 > age }) else { return }
        self.nextSYN = self.core.loop.assumeIsolated().scheduleTask(deadline: self.acceptedAt + next) {
            self.connect()
        }
    }

    private func perform(_ action: Pipe.BytesAction, on direction: Directions) {
        switch action {
        case .pass(let bytes):
            self.core.count(passed: bytes.readableBytes, direction)
            self.target(direction)?.write(bytes)
        case .swallow(let bytes):
            self.core.count(swallowed: bytes, direction)
        case .hold:
            break
        }
    }

    private func perform(_ action: Pipe.EndAction, on direction: Directions) {
        switch action {
        case .pass(.finish):
            self.target(direction)?.closeOutput()
        case .pass(.reset):
            self.target(direction)?.reset()
        case .swallow:
            self.lostAnEnd = true
            self.core.countSwallowedEnd()
        case .hold:
            break
        }
    }

    private func perform(_ release: Pipe.Release, on direction: Directions) {
        for bytes in release.pass {
            self.core.count(passed: bytes.readableBytes, direction)
            self.target(direction)?.write(bytes)
        }
        self.target(direction)?.flush()
        self.core.count(swallowed: release.swallowedBytes, direction)
        if release.swallowedEnds > 0 {
            self.lostAnEnd = true
            self.core.countSwallowedEnd()
        }
        if let end = release.end {
            self.perform(.pass(end), on: direction)
        }
        // The near socket may have been waiting for the far one.
        (direction == .toServer ? self.client : self.server)?.resumeReading()
    }

    // MARK: The end of it

    /// When both ends have gone there is nobody left to relay for.
    private func finishIfOver() {
        guard !self.isFinished else { return }
        if self.client == nil, self.server == nil, !self.isConnecting {
            self.finish()
            return
        }
        let serverIsOut = self.serverEnded || (!self.isConnecting && self.server == nil)
        guard self.clientEnded, serverIsOut, self.lostAnEnd, self.ghost == nil else { return }
        // Closing a socket here sends the FIN that was lost. Both ends have said that they have gone, yet one of them may
        // have closed only its sending half and still be listening: hold the sockets longer than a kernel waits for
        // the other's FIN (60 s on Linux), then nobody hears it.
        self.ghost = self.core.loop.assumeIsolated().scheduleTask(in: self.core.configuration.ghostTime) {
            self.finish()
        }
    }

    private var isConnecting: Bool {
        if case .connecting = self.upstream { true } else { false }
    }

    private func finish() {
        guard !self.isFinished else { return }
        self.isFinished = true
        self.ghost?.cancel()
        self.nextSYN?.cancel()
        self.client?.close()
        self.server?.close()
        self.opening?.close()
        self.opening = nil
        self.core.closed(self)
    }
}
