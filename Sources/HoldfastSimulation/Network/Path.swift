/// The way between one client and the gateways: what is wrong with it just now.
///
/// Faults may overlap, so each counts how often it is on.
final class Path {
    /// Packets that way are dropped.
    var cutToServer = 0
    var cutToClient = 0
    /// One way, in seconds.
    var usualLatency = 0.02
    var jitter = 0.01
    /// Seconds on top.
    var delays: [Double] = []
    /// Shares of packets that are lost and sent again by TCP.
    var losses: [Double] = []
    /// Bytes per second towards the client.
    var bandwidths: [Double] = []

    /// What becomes of WebSockets at a proxy on the way.
    var webSockets: [WebSocketFate] = []
    /// The proxy keeps what belongs to an answer until the answer ends.
    var isBuffered = 0
    /// The proxy closes connections on which nothing was said for so long.
    var idleLimits: [Double] = []
    /// The proxy closes all connections when they are so old.
    var lifeLimits: [Double] = []

    enum WebSocketFate {
        /// The upgrade gets some other answer.
        case refused
        /// The upgrade gets no answer.
        case hangs
        /// It is upgraded, and nothing is carried then.
        case silent
        /// It is upgraded, and only what the client says is carried.
        case deaf
    }

    func isCut(_ way: Way) -> Bool { (way == .toServer ? self.cutToServer : self.cutToClient) > 0 }

    var latency: Double { self.usualLatency + (self.delays.max() ?? 0) }

    /// How long a packet takes now, in seconds, with what TCP needs to repeat it.
    func delay(_ dice: Dice) -> Double {
        var delay = self.latency + self.jitter * dice.share()
        var wait = Self.firstRepeat
        let loss = self.losses.max() ?? 0
        while loss > 0, dice.chance(loss) {
            delay += wait
            wait *= 2
        }
        return delay
    }

    /// TCP's first retransmission, in seconds (RFC 6298 §2.4 allows less than Linux's 0.2).
    static let firstRepeat = 0.25
    static let lastRepeat = 60.0
}

enum Way {
    case toServer, toClient
}
