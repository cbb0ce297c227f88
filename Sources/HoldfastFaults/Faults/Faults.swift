/// All faults that stand at one time: what ``FaultProxy/apply(_:)`` takes.
///
/// Its members have the same names everywhere: `latencyMs` is `--latency-ms` on the command line and `latency-ms` in a
/// script and in JSON. 0, none and `pass` mean: no such fault.
public struct Faults: Sendable, Equatable {
    // MARK: The cable

    /// The directions in which nothing arrives: no byte, no FIN, no RST.
    public var cut: Directions = []
    /// What becomes of that which is sent during the cut.
    public var cutPackets: CutPackets = .lost
    /// Which connections the cut strikes.
    public var cutReach: Reach = .everything

    // MARK: Whom the others strike

    /// Which connections all faults but the cut and ``refuse`` strike. "Existing" are those that are open when the
    /// faults are applied.
    public var reach: Reach = .everything
    /// `upgrades`: the faults from ``latencyMs`` to ``closeAfterMs``, and ``corrupt``, strike WebSockets and other
    /// upgraded connections only, from the end of their handshake on.
    public var traffic: Traffic = .all
    /// Where ``latencyMs``, ``jitterMs``, ``bandwidthBytes``, ``dripBytes`` and ``finDelayMs`` strike.
    public var directions: Directions = .both

    // MARK: Slow lines

    /// Milliseconds that everything takes longer, each way.
    public var latencyMs = 0
    /// Milliseconds by which the latency is at most longer or shorter, evenly distributed. The order is kept.
    public var jitterMs = 0
    /// Bytes per second, each way and connection; 0: no bound.
    public var bandwidthBytes = 0
    /// As many bytes as arrive at once, one such piece every ``dripMs``; 0: no bound.
    public var dripBytes = 0
    /// Milliseconds between two pieces.
    public var dripMs = 100

    // MARK: Ends

    /// The directions in which a FIN is not passed on. A RST is.
    public var dropFin: Directions = []
    /// Milliseconds that a FIN takes longer.
    public var finDelayMs = 0
    /// Milliseconds without a byte in either direction after which a connection is closed to both sides; 0: never.
    public var closeIdleMs = 0
    /// Milliseconds that a connection lives; 0: as long as it likes.
    public var closeAfterMs = 0

    // MARK: What proxies do that understand HTTP

    /// What becomes of requests to upgrade. All other requests pass.
    public var upgrades: UpgradeFault = .pass
    /// A response is held back until it has so many bytes, head included, or ends; 0: not at all.
    public var bufferBytes = 0
    /// Every request but upgrades is sent to the server a second time, on a connection of its own; that answer is
    /// thrown away.
    public var duplicateRequests = false

    // MARK: The rest

    /// The directions in which a bit of one byte is turned.
    public var corrupt: Directions = []
    /// Which byte of the direction of a connection that is, the first being 1. With ``traffic`` `upgrades`, counted
    /// from the end of the handshake.
    public var corruptByte = 1
    /// The port is closed to new connections (ECONNREFUSED).
    public var refuse = false

    public init() {}
}

/// Which connections a fault strikes.
public enum Reach: String, Sendable, Hashable, CaseIterable {
    /// Those that are and those that come.
    case everything
    /// Only those that are: a router or a firewall that has forgotten them, while the network is fine. A client that
    /// notices has a new line at once.
    case existingConnections = "existing"
    /// Only those that come.
    case newConnections = "new"
}

/// Which bytes a fault strikes.
public enum Traffic: String, Sendable, Hashable, CaseIterable {
    case all
    case upgrades
}

/// What becomes of a request to upgrade (RFC 9110, section 7.8), such as a WebSocket's.
public enum UpgradeFault: Sendable, Hashable {
    case pass
    /// Answered here with this status, 200 to 599; the server never hears of it. The connection is kept.
    case answer(status: Int)
    /// Never answered; the server never hears of it.
    case hang
    /// Answered with RST.
    case reset
    /// The upgrade passes, and afterwards nothing is carried, not even an end.
    case silent
    /// The upgrade passes, and afterwards only what the client says.
    case onlyToServer
    /// The upgrade passes, and afterwards only what the server says.
    case onlyToClient

    /// What is not carried after the upgrade.
    var silence: Directions {
        switch self {
        case .pass, .answer, .hang, .reset: []
        case .silent: .both
        case .onlyToServer: .toClient
        case .onlyToClient: .toServer
        }
    }

    /// Whether the request is kept from the server.
    var isRefused: Bool {
        switch self {
        case .answer, .hang, .reset: true
        case .pass, .silent, .onlyToServer, .onlyToClient: false
        }
    }
}

/// Something in a description of faults that cannot be.
public struct FaultsError: Error, Equatable, CustomStringConvertible {
    public let description: String

    init(_ description: String) {
        self.description = description
    }
}

extension Faults {
    /// Whether nothing is wrong with the line.
    public var isNone: Bool { self == Faults() }

    /// What stands, in the words of a script; "none" if nothing does.
    public var summary: String {
        let none = Faults()
        let words = FaultField.all.filter { $0.text(self) != $0.text(none) }.map { "\($0.name) \($0.text(self))" }
        return words.isEmpty ? "none" : words.joined(separator: ", ")
    }

    /// Checks what the ranges of the single members cannot say.
    ///
    /// - Throws: ``FaultsError`` with the limit and the actual value.
    public func validate() throws(FaultsError) {
        for field in FaultField.all {
            try field.check(self)
        }
        guard self.jitterMs <= self.latencyMs else {
            throw FaultsError(
                "jitter-ms must be at most latency-ms, which is \(self.latencyMs); it is \(self.jitterMs)")
        }
        guard self.dripBytes == 0 || self.bandwidthBytes == 0 else {
            throw FaultsError("bandwidth-bytes and drip-bytes both say how fast bytes arrive: give one of them")
        }
    }
}
