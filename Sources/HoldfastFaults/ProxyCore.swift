import NIOCore
import NIOPosix

/// All that one proxy knows: its connections, the fault in force, the counts. Loop-bound.
///
/// One loop has it all, so that a fault strikes every connection at one instant, without a lock or an atomic on the way
/// of the bytes, and so that the figures fit together.
final class ProxyCore {
    let loop: any EventLoop
    let configuration: FaultProxy.Configuration

    private var relays: [ObjectIdentifier: Relay] = [:]
    private var statistics = FaultProxy.Statistics()
    /// What a connection begins with that is accepted now.
    private(set) var cutOfNewConnections = Cut.none
    private var isShutDown = false

    init(configuration: FaultProxy.Configuration, loop: any EventLoop) {
        self.configuration = configuration
        self.loop = loop
    }

    // MARK: Control

    func cut(_ cut: Cut, reach: CutReach) {
        self.statistics.cut = cut.directions
        self.cutOfNewConnections =
            switch reach {
            case .everything: cut
            case .existingConnections: .none
            }
        for relay in Array(self.relays.values) {
            relay.cut(cut)
        }
    }

    func currentStatistics() -> FaultProxy.Statistics {
        self.loop.assertInEventLoop()
        return self.statistics
    }

    func shutdown() {
        self.isShutDown = true
        for relay in Array(self.relays.values) {
            relay.shutdown()
        }
    }

    // MARK: Connections

    /// False when there is no room: the connection is to be refused.
    func admit(_ relay: Relay) -> Bool {
        guard !self.isShutDown, self.relays.count < self.configuration.connectionLimit else {
            self.statistics.connectionsRefused += 1
            return false
        }
        self.relays[ObjectIdentifier(relay)] = relay
        self.statistics.connectionsOpen += 1
        self.statistics.connectionsTotal += 1
        return true
    }

    func closed(_ relay: Relay) {
        if self.relays.removeValue(forKey: ObjectIdentifier(relay)) != nil {
            self.statistics.connectionsOpen -= 1
        }
    }

    func connect(for relay: Relay) {
        let bound = NIOLoopBound(relay, eventLoop: self.loop)
        ClientBootstrap(group: self.loop)
            .connectTimeout(self.configuration.connectTimeout)
            .relayOptions(self.configuration)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = RelayHandler(relay: bound.value, side: .server)
                    try channel.pipeline.syncOperations.addHandler(handler)
                    bound.value.opening(handler)
                }
            }
            .connect(host: self.configuration.serverHost, port: self.configuration.serverPort)
            .whenFailure { _ in bound.value.connectFailed() }
    }

    // MARK: Counting

    func count(passed bytes: Int, _ direction: Directions) {
        if direction == .toServer {
            self.statistics.bytesToServer += bytes
        } else {
            self.statistics.bytesToClient += bytes
        }
    }

    func count(swallowed bytes: Int, _ direction: Directions) {
        if direction == .toServer {
            self.statistics.bytesSwallowedToServer += bytes
        } else {
            self.statistics.bytesSwallowedToClient += bytes
        }
    }

    func countSwallowedEnd() {
        self.statistics.endsSwallowed += 1
    }
}

extension ClientBootstrap {
    /// The options of both sockets of a relayed connection; those of the accepted one are in ``FaultProxy/start(_:on:)``.
    fileprivate func relayOptions(_ configuration: FaultProxy.Configuration) -> ClientBootstrap {
        self.channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.socketOption(.so_rcvbuf), value: .init(configuration.receiveBufferSize))
            .channelOption(.writeBufferWaterMark, value: configuration.writeWaterMark)
    }
}
