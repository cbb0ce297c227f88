import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOHTTP1

/// One event loop of a gateway, for connections that are not on a network: what the simulation connects its clients to.
///
/// Everything behind the sockets and the HTTP codec is the gateway's own.
package struct GatewayPort {
    private let shard: Shard

    /// - Parameter loop: one of those that the gateway was made with.
    package init?(_ gateway: Gateway, loop: any EventLoop) {
        guard let shard = gateway.shard(of: loop) else { return nil }
        self.shard = shard
    }

    /// What the other end of a WebSocket does.
    package struct WebSocketPeer {
        private let transport: WebSocketTransport

        fileprivate init(_ transport: WebSocketTransport) { self.transport = transport }

        package func send(_ bytes: ByteBuffer) { self.transport.received(bytes) }

        package func writabilityChanged(_ isWritable: Bool) { self.transport.writabilityChanged(isWritable) }

        /// The connection is gone.
        package func lost(_ reason: String) {
            self.transport.lost(reason)
            self.transport.wireGone()
        }
    }

    /// - Returns: `nil` where the handshake is answered with 503.
    package func acceptWebSocket(on wire: any WebSocketWire) -> WebSocketPeer? {
        guard self.shard.gateway.webSocketRefusal == nil else { return nil }
        let transport = WebSocketTransport(shard: self.shard, remote: "simulation")
        transport.begin(on: wire)
        return WebSocketPeer(transport)
    }

    /// What the other end of a request does.
    package struct RequestPeer {
        private let exchange: SessionExchange

        fileprivate init(_ exchange: SessionExchange) { self.exchange = exchange }

        package func writabilityChanged(_ isWritable: Bool) { self.exchange.writabilityChanged(isWritable) }

        package func lost(_ reason: String) { self.exchange.connectionEnded(reason: reason) }
    }

    /// A request to a session's endpoints, which has come whole.
    package func serve(_ head: HTTPRequestHead, body: ByteBuffer, front: any ExchangeFront) -> RequestPeer {
        let exchange = SessionExchange(head, path: head.uri[...], shard: self.shard, remote: "simulation", front: front)
        var body = body
        exchange.append(&body)
        exchange.serve()
        return RequestPeer(exchange)
    }

    /// A planned stop, as ``Gateway`` does it on SIGTERM; a part of it at a time.
    package func drain(_ stage: DrainStage) {
        switch stage {
        case .begin: self.shard.gateway.markDraining()
        case .sendAway(let window): _ = self.shard.sendAway(atMost: .max, window: window, except: [])
        case .close: self.shard.closeTransports()
        }
    }

    package enum DrainStage {
        case begin
        case sendAway(window: Double)
        case close
    }

    /// Bytes and events that the gateway keeps for sessions of this loop, to be compared with their limits.
    package func inspect(_ body: (SessionFigures) -> Void) {
        for session in self.shard.sessions.values {
            body(
                SessionFigures(
                    outboxBytes: session.core.outbox.keptBytes,
                    outboxEvents: session.core.outbox.keptEvents,
                    queueBytes: session.queue.bytes
                ))
        }
    }

    package struct SessionFigures {
        package let outboxBytes: Int
        package let outboxEvents: Int
        package let queueBytes: Int
    }

    /// The node has died: nothing of it runs any more, and nothing keeps it in memory.
    package func vanish() { self.shard.vanish() }
}
