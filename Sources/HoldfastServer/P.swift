import Hummingbird
import NIOSSL
import Yams
