/// Which way the packets travel that a fault strikes.
///
/// Named after where they go: the side that is cut off is the one that does not *hear* any more.
public struct Directions: OptionSet, Sendable, Hashable, CustomStringConvertible {
    public let rawValue: UInt8

    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// From the client to the server.
    public static let toServer = Directions(rawValue: 1 << 0)
    /// From the server to the client.
    public static let toClient = Directions(rawValue: 1 << 1)
    /// Both ways: the pulled cable.
    public static let both: Directions = [.toServer, .toClient]

    public var description: String { self.name }

    /// As scripts and JSON write it.
    public var name: String {
        switch self {
        case .both: "both"
        case .toServer: "to-server"
        case .toClient: "to-client"
        default: "none"
        }
    }

    public init?(name: some StringProtocol) {
        switch name {
        case "both": self = .both
        case "to-server": self = .toServer
        case "to-client": self = .toClient
        case "none": self = []
        default: return nil
        }
    }
}

/// What becomes of the packets that a cut stops.
///
/// A network that is cut drops packets, and each TCP sends its own again until it is answered or gives up. A proxy has
/// two TCP connections instead of one: its kernel has acknowledged the bytes before the proxy sees them, so nobody will
/// send them again. There are two honest ways to go on from there, and no third: forwarding what comes after the hole
/// would show the receiver a stream that no network can produce.
public enum CutPackets: String, Sendable, Hashable, CaseIterable {
    /// The bytes, FINs and RSTs sent during the cut are lost for good. A connection that lost anything in a direction
    /// stays silent in that direction for ever, also after the line is restored: to both ends it is the socket that
    /// looks alive and is not. A connection in which nothing was sent meanwhile goes on as if nothing had happened.
    ///
    /// The default, because it is what a cut of some length comes to: long before the retransmissions get through, one
    /// end has given the connection up, or a router on the way has forgotten it.
    case lost

    /// The bytes, FINs and RSTs sent during the cut arrive, in order, when the line is restored, as TCP would repeat
    /// them after a *short* cut. They wait in the kernel's socket buffers, not here: the proxy stops reading, so the
    /// sender is slowed down as it would be by a network that acknowledges nothing.
    case delayed
}

/// The cut in force on one connection.
struct Cut: Equatable {
    var directions: Directions
    var packets: CutPackets

    static let none = Cut(directions: [], packets: .lost)

    func line(_ direction: Directions) -> Pipe.Line {
        guard self.directions.contains(direction) else { return .whole }
        return switch self.packets {
        case .lost: .swallows
        case .delayed: .holds
        }
    }
}
