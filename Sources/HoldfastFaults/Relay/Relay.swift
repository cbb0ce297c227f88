import NIOCore

/// One connection through the proxy: two sockets, and for each direction what stands between them. Loop-bound.
///
///     near socket ─► Middlebox ─► Corruption ─► Shaper ─► Pipe ─► far socket
///                    HTTP          a bit         time      the cable
///
/// The cable comes last: what is under way when it is pulled is lost with it.
final class Relay {
    enum Upstream {
        /// Accepted on a line that was cut, in whatever direction: the client's SYN is lost, and will be sent again.
        case notConnected
        case connecting
        case open
        case gone
    }

    /// What one direction has besides its sockets.
    struct Lane {
        var pipe: Pipe
        var shaper: Shaper
        var corruption = Corruption()
        /// For the shaper.
        var alarm: Scheduled<Void>?
    }

    let core: ProxyCore
    /// In the order of their coming, from 1; 0 until it is admitted.
    var number = 0
    let acceptedAt = NIODeadline.now()
    var cut = Cut.none
    var faults = Faults()
    var middlebox = Middlebox()
    var nextSYN: Scheduled<Void>?
    var client: RelayHandler?
    var server: RelayHandler?
    /// Of a socket that is not open yet.
    private var opening: RelayHandler?
    var upstream: Upstream = .notConnected
    var toServer: Lane
    var toClient: Lane

    private var clientEnded = false
    private var serverEnded = false
    var lostAnEnd = false
    private(set) var isFinished = false
    private var ghost: Scheduled<Void>?

    /// Since when the faults strike that wait for a connection to be upgraded.
    var upgradedAt: NIODeadline?
    var lastBytesAt = NIODeadline.now()
    var closing: Scheduled<Void>?

    init(core: ProxyCore) {
        self.core = core
        let limit = core.configuration.heldBytesLimit
        self.toServer = Lane(pipe: Pipe(line: .holds, farIsOpen: false), shaper: Shaper(limit: limit))
        self.toClient = Lane(pipe: Pipe(line: .whole, farIsOpen: true), shaper: Shaper(limit: limit))
    }

    // MARK: Facts from the sockets

    func opened(_ side: Side, _ handler: RelayHandler) {
        switch side {
        case .client:
            self.client = handler
            guard self.core.admit(self, from: handler.remoteAddress) else {
                handler.reset()
                return
            }
            self.cut = self.core.cutOfNewConnections
            self.apply(self.core.faultsOfNewConnections)
            if self.cut.directions.isEmpty {
                self.connect()
            }
        case .server:
            self.server = handler
            self.opening = nil
            self.upstream = .open
            self.perform(self.toServer.pipe.farOpened(), on: .toServer)
        }
    }

    func opening(_ handler: RelayHandler) {
        guard !self.isFinished else { return handler.close() }
        self.opening = handler
    }

    func connectFailed(_ error: any Error) {
        guard !self.isFinished else { return }
        self.core.tell(self, "the server cannot be reached: \(error)")
        self.opening = nil
        self.upstream = .gone
        self.ended(.reset, from: .server)
        self.perform(self.toServer.pipe.farGone(), on: .toServer)
        self.finishIfOver()
    }

    func received(_ bytes: ByteBuffer, from side: Side) {
        guard !self.isFinished else { return }
        self.lastBytesAt = .now()
        self.perform(self.middlebox.received(bytes, going: side.direction))
    }

    func readComplete(from side: Side) {
        // The middlebox may have answered on the spot.
        self.client?.flush()
        self.server?.flush()
    }

    func writabilityChanged(of side: Side) {
        self.far(of: side)?.resumeReading()
    }

    func mayRead(from side: Side) -> Bool {
        let farIsWritable = self.far(of: side)?.isWritable ?? false
        let lane = side == .client ? self.toServer : self.toClient
        guard lane.pipe.mayRead(farIsWritable: farIsWritable) else { return false }
        return lane.shaper.hasRoom && (side == .server || self.middlebox.mayReadClient)
    }

    func ended(_ end: StreamEnd, from side: Side) {
        guard !self.isFinished else { return }
        if side == .client, case .notConnected = self.upstream {
            // It has given up before there was a connection. The server never hears of it.
            return self.finish("the client gave up before its SYN got through")
        }
        self.core.tell(self, "\(side == .client ? "client" : "server") sends \(end == .finish ? "FIN" : "RST")")
        switch side {
        case .client: self.clientEnded = true
        case .server: self.serverEnded = true
        }
        let (outputs, isPassed) = self.middlebox.ended(side.direction)
        self.perform(outputs)
        let isDropped = end == .finish && self.faults.dropFin.contains(side.direction) && self.isStruck
        if isPassed && !isDropped {
            self.send(.end(end), side.direction)
        } else {
            self.perform(.swallow, on: side.direction)
        }
        self.finishIfOver()
    }

    /// The socket is gone. ``ended(_:from:)`` has been told before, unless it was closed from here.
    func closed(_ side: Side) {
        switch side {
        case .client:
            self.client = nil
            self.perform(self.toClient.pipe.farGone(), on: .toClient)
        case .server:
            self.server = nil
            self.upstream = .gone
            self.perform(self.toServer.pipe.farGone(), on: .toServer)
        }
        self.finishIfOver()
    }

    /// But for those that NIO has been given.
    var heldBytes: Int {
        self.middlebox.heldBytes + self.toServer.shaper.heldBytes + self.toClient.shaper.heldBytes
    }

    // MARK: Facts from the control

    func cut(_ cut: Cut) {
        guard !self.isFinished else { return }
        self.cut = cut
        if case .notConnected = self.upstream {
            return self.awaitNextSYN()
        }
        self.perform(self.toServer.pipe.lineChanged(to: cut.line(.toServer)), on: .toServer)
        self.perform(self.toClient.pipe.lineChanged(to: cut.line(.toClient)), on: .toClient)
        self.client?.resumeReading()
        self.server?.resumeReading()
    }

    /// RST to both sides.
    func reset() {
        self.client?.reset()
        self.server?.reset()
        self.finish("reset to both sides")
    }

    // MARK: Connecting

    func far(of side: Side) -> RelayHandler? {
        switch side {
        case .client: self.server
        case .server: self.client
        }
    }

    private func connect() {
        self.upstream = .connecting
        // Now it is a connection like any other: what is cut later, cuts it.
        self.cut(self.cut)
        self.core.connect(for: self)
    }

    /// The client's kernel believes that it is connected, so it will not send its SYN again: done for it, when it
    /// would.
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

    // MARK: The end of it

    /// When both ends have gone there is nobody left to relay for.
    func finishIfOver() {
        guard !self.isFinished else { return }
        if self.client == nil, self.server == nil, !self.isConnecting {
            self.finish("over")
            return
        }
        let serverIsOut = self.serverEnded || (!self.isConnecting && self.server == nil)
        guard self.clientEnded, serverIsOut, self.lostAnEnd, self.ghost == nil else { return }
        // Closing a socket here sends the FIN that was lost. Both ends have said that they have gone, yet one of them
        // may have closed only its sending half and still be listening: hold the sockets longer than a kernel waits for
        // the other's FIN (60 s on Linux), then nobody hears it.
        self.ghost = self.core.loop.assumeIsolated().scheduleTask(in: self.core.configuration.ghostTime) {
            self.finish("both sides have gone")
        }
    }

    private var isConnecting: Bool {
        if case .connecting = self.upstream { true } else { false }
    }

    /// Closes both sockets; what they have been given and their kernels have taken still arrives.
    func finish(_ why: String) {
        guard !self.isFinished else { return }
        self.isFinished = true
        for task in [self.ghost, self.nextSYN, self.closing, self.toServer.alarm, self.toClient.alarm] {
            task?.cancel()
        }
        self.client?.close()
        self.server?.close()
        self.opening?.close()
        self.opening = nil
        self.core.closed(self, why)
    }
}

extension Side {
    /// Where that goes which comes from this side.
    var direction: Directions { self == .client ? .toServer : .toClient }
}
