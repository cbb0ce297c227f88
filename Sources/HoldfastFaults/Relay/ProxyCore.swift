import NIOCore
import NIOPosix

/// All that one proxy knows: its connections, the faults in force, the counts. Loop-bound.
///
/// One loop has it all, so that a fault strikes every connection at one instant, without a lock or an atomic on the way
/// of the bytes, and so that the figures fit together.
final class ProxyCore {
    let loop: any EventLoop
    let configuration: FaultProxy.Configuration

    private var relays: [Int: Relay] = [:]
    private var duplicates: [ObjectIdentifier: any Channel] = [:]
    var statistics = FaultProxy.Statistics()
    private(set) var faults = Faults()
    /// What a connection begins with that is accepted now.
    private(set) var cutOfNewConnections = Cut.none
    private(set) var faultsOfNewConnections = Faults()
    private(set) var isShutDown = false
    /// For the jitter.
    var chance: SeededGenerator

    init(configuration: FaultProxy.Configuration, loop: any EventLoop) {
        self.configuration = configuration
        self.loop = loop
        self.chance = SeededGenerator(seed: configuration.seed)
    }

    // MARK: Control

    func cut(_ cut: Cut, reach: Reach) {
        self.faults.cut = cut.directions
        self.faults.cutPackets = cut.packets
        self.faults.cutReach = reach
        self.statistics.cut = cut.directions
        self.cutOfNewConnections = reach == .existingConnections ? .none : cut
        for relay in self.inOrder {
            relay.cut(reach == .newConnections ? .none : cut)
        }
    }

    /// Replaces what stands. What has not changed is not done again: connections that are new since are not "existing".
    func apply(_ faults: Faults) {
        let old = self.faults
        if faults.cable != old.cable || faults.cutReach != old.cutReach {
            self.cut(faults.cable, reach: faults.cutReach)
        }
        self.faults = faults
        if faults != old { self.tell(nil, "faults: \(faults.summary)") }
        guard faults.withoutCable != old.withoutCable else { return }
        self.faultsOfNewConnections = faults.reach == .existingConnections ? Faults() : faults
        for relay in self.inOrder {
            relay.apply(faults.reach == .newConnections ? Faults() : faults)
        }
    }

    /// - Returns: how many there were.
    func reset(_ which: FaultProxy.Which) -> Int { self.strike(which) { $0.reset() } }

    func halfClose(_ directions: Directions, _ which: FaultProxy.Which) -> Int {
        self.strike(which) { $0.halfClose(directions) }
    }

    func closeAll() -> Int { self.strike(.all) { $0.finish("closed to both sides") } }

    private func strike(_ which: FaultProxy.Which, _ action: (Relay) -> Void) -> Int {
        let struck = which == .all ? self.inOrder[...] : self.inOrder.suffix(1)
        for relay in struck { action(relay) }
        return struck.count
    }

    private var inOrder: [Relay] { self.relays.values.sorted { $0.number < $1.number } }

    func currentStatistics() -> FaultProxy.Statistics {
        self.loop.assertInEventLoop()
        var now = self.statistics
        now.bytesHeld = self.relays.values.reduce(0) { $0 + $1.heldBytes }
        return now
    }

    func shutdown() {
        self.isShutDown = true
        for relay in self.inOrder {
            relay.finish("the proxy ends")
        }
        for channel in self.duplicates.values {
            channel.close(promise: nil)
        }
    }

    // MARK: Connections

    /// False when there is no room: the connection is to be refused.
    func admit(_ relay: Relay, from address: SocketAddress?) -> Bool {
        guard !self.isShutDown, self.relays.count < self.configuration.connectionLimit else {
            self.statistics.connectionsRefused += 1
            self.tell(nil, "a connection is reset: there are \(self.relays.count), which is the limit")
            return false
        }
        self.statistics.connectionsOpen += 1
        self.statistics.connectionsTotal += 1
        relay.number = self.statistics.connectionsTotal
        self.relays[relay.number] = relay
        self.tell(relay, "opened\(address.flatMap(\.port).map { " from port \($0)" } ?? "")")
        return true
    }

    func closed(_ relay: Relay, _ why: String) {
        if self.relays.removeValue(forKey: relay.number) != nil {
            self.statistics.connectionsOpen -= 1
            self.tell(relay, "ended: \(why)")
        }
    }

    func connect(for relay: Relay) {
        let bound = NIOLoopBound(relay, eventLoop: self.loop)
        self.bootstrap
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = RelayHandler(relay: bound.value, side: .server)
                    try channel.pipeline.syncOperations.addHandler(handler)
                    bound.value.opening(handler)
                }
            }
            .connect(host: self.configuration.serverHost, port: self.configuration.serverPort)
            .whenFailure { bound.value.connectFailed($0) }
    }

    // MARK: Duplicates

    func duplicate(_ request: ByteBuffer, isHEAD: Bool, of relay: Relay) {
        guard self.duplicates.count < self.configuration.duplicateLimit else {
            return self.tell(
                relay, "not repeated: \(self.duplicates.count) requests are being repeated, which is the limit")
        }
        self.statistics.requestsDuplicated += 1
        self.tell(relay, "request repeated")
        let core = NIOLoopBound(self, eventLoop: self.loop)
        let lifetime = self.configuration.duplicateTime
        self.bootstrap
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let id = ObjectIdentifier(channel)
                    core.value.duplicates[id] = channel
                    channel.closeFuture.assumeIsolated().whenComplete { _ in core.value.duplicates[id] = nil }
                    let handler = DuplicateHandler(request: request, isHEAD: isHEAD, lifetime: lifetime)
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
            .connect(host: self.configuration.serverHost, port: self.configuration.serverPort)
            // The original fares no better, and tells the client.
            .whenFailure { _ in }
    }

    /// The options of both sockets of a relayed connection; those of the accepted one are in ``ListeningPort``.
    private var bootstrap: ClientBootstrap {
        ClientBootstrap(group: self.loop)
            .connectTimeout(self.configuration.connectTimeout)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.socketOption(.so_rcvbuf), value: .init(self.configuration.receiveBufferSize))
            .channelOption(.writeBufferWaterMark, value: self.configuration.writeWaterMark)
    }
}

extension Faults {
    fileprivate var withoutCable: Faults {
        var rest = self
        (rest.cut, rest.cutPackets, rest.cutReach) = ([], .lost, .everything)
        return rest
    }
}
