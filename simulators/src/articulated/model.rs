//! What an articulated body is: links on a tree of joints, their shapes, and the ground they may touch.
//!
//! World axes: x forward, **y up**. A link's frame is where its joint leaves it; shapes are given in it. Everything is `f64`
//! here; [`Plan`] is the same in the precision that is computed in, with what can be known beforehand.

use super::real::Scalar;
use super::shape::{MassProperties, Shape};

/// How the inertia of a turned shape is added to its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InertiaMode {
    /// `R I Rᵀ` taken element by element, as dflex computes it. Published policies and returns rest on it.
    Dflex,
    /// `R I Rᵀ`.
    Exact,
}

/// Spring, damper and stops of a joint with one degree of freedom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drive {
    /// Axis in the joint's frame, of length one.
    pub axis: [f64; 3],
    /// Lowest coordinate without a restoring force, rad or m.
    pub lower: f64,
    /// Highest one.
    pub upper: f64,
    /// Stiffness of the stops, N m/rad or N/m.
    pub limit_stiffness: f64,
    /// Damping of the stops. It acts always, not only beyond a limit, as in dflex.
    pub limit_damping: f64,
    /// Stiffness of the spring.
    pub stiffness: f64,
    /// Where the spring rests.
    pub target: f64,
    /// Damping.
    pub damping: f64,
    /// Added to the diagonal of the mass matrix, kg m² or kg.
    pub armature: f64,
}

impl Drive {
    /// A joint that turns about, or slides along, `axis`, and nothing else.
    #[must_use]
    pub fn free(axis: [f64; 3]) -> Self {
        Self {
            axis,
            lower: f64::NEG_INFINITY,
            upper: f64::INFINITY,
            limit_stiffness: 0.0,
            limit_damping: 0.0,
            stiffness: 0.0,
            target: 0.0,
            damping: 0.0,
            armature: 0.0,
        }
    }
}

/// How a link hangs on its parent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Joint {
    /// Six degrees of freedom; the first link only, and hung on the world. Coordinates `px py pz qx qy qz qw`, velocity the
    /// twist about the world's origin, `ωx ωy ωz vx vy vz`.
    Free,
    /// Turns by one angle.
    Revolute(Drive),
    /// Slides by one length.
    Prismatic(Drive),
    /// Does not move.
    Fixed,
}

impl Joint {
    /// Number of coordinates.
    #[must_use]
    pub fn coordinates(&self) -> usize {
        match self {
            Self::Free => 7,
            Self::Revolute(_) | Self::Prismatic(_) => 1,
            Self::Fixed => 0,
        }
    }

    /// Degrees of freedom.
    #[must_use]
    pub fn freedoms(&self) -> usize {
        match self {
            Self::Free => 6,
            Self::Revolute(_) | Self::Prismatic(_) => 1,
            Self::Fixed => 0,
        }
    }
}

/// A link: its joint, and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Index of the link it hangs on; the world where there is none. Comes before this one.
    pub parent: Option<usize>,
    /// The joint between them.
    pub joint: Joint,
    /// Place of the joint in the parent's frame, m.
    pub offset: [f64; 3],
    /// Orientation of the joint in the parent's frame, `x y z w`, where it is turned at all.
    pub turn: Option<[f64; 4]>,
    /// Its shapes, in its own frame. None: massless, for joints in a row.
    pub shapes: Vec<Shape>,
}

/// How the ground pushes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ground {
    /// Normal stiffness, N/m.
    pub ke: f64,
    /// Normal damping for each metre of depth, N s/m².
    pub kd: f64,
    /// Viscous friction below the cone, N s/m.
    pub kf: f64,
    /// Coulomb's coefficient.
    pub mu: f64,
}

/// An articulated body on a plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The links, parents first.
    pub links: Vec<Link>,
    /// The ground at `y = 0`, if there is one.
    pub ground: Option<Ground>,
    /// Of all shapes, kg/m³.
    pub density: f64,
    /// Downwards, m/s².
    pub gravity: f64,
    /// How inertias are put together.
    pub inertia: InertiaMode,
    /// Seconds of a substep.
    pub dt: f64,
    /// Substeps of a control step, for which actuation is held.
    pub substeps: usize,
    /// Substeps for which a mass matrix is used before it is computed anew.
    pub mass_matrix_every: usize,
    /// What actions drive, in their order.
    pub motors: Vec<Motor>,
}

/// A motor: an action of -1 to 1 times its gain acts on one degree of freedom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motor {
    /// The degree of freedom.
    pub freedom: usize,
    /// N m or N at an action of 1.
    pub gain: f64,
}

impl Model {
    /// Number of coordinates.
    #[must_use]
    pub fn coordinates(&self) -> usize {
        self.links.iter().map(|link| link.joint.coordinates()).sum()
    }

    /// Degrees of freedom.
    #[must_use]
    pub fn freedoms(&self) -> usize {
        self.links.iter().map(|link| link.joint.freedoms()).sum()
    }

    /// Mass, centre and inertia of each link.
    #[must_use]
    pub fn mass_properties(&self) -> Vec<MassProperties> {
        self.links.iter().map(|link| MassProperties::of(&link.shapes, self.density, self.inertia)).collect()
    }
}

/// A coordinate's own forces, in the precision that is computed in.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedDrive<T> {
    pub axis: [T; 3],
    pub lower: T,
    pub upper: T,
    pub limit_stiffness: T,
    pub stiffness: T,
    pub target: T,
    /// Joint and limit damping together.
    pub damping: T,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<T> {
    Free,
    Revolute(PlannedDrive<T>),
    Prismatic(PlannedDrive<T>),
    Fixed,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedLink<T> {
    pub parent: Option<usize>,
    pub kind: Kind<T>,
    pub offset: [T; 3],
    /// Only where the joint is turned at all.
    pub turn: Option<[T; 4]>,
    /// First coordinate.
    pub q: usize,
    /// First degree of freedom.
    pub v: usize,
    /// Nothing to compute where there is no mass.
    pub massive: bool,
    pub mass: T,
    pub com: [T; 3],
    pub inertia: [T; 6],
}

/// A point that may touch the ground.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedContact<T> {
    pub link: usize,
    pub point: [T; 3],
    pub thickness: T,
    /// How many points there are at this very place; they push alike.
    pub count: T,
}

/// A [`Model`] ready to be computed with.
#[derive(Clone, Debug)]
pub(super) struct Plan<T> {
    pub links: Vec<PlannedLink<T>>,
    pub contacts: Vec<PlannedContact<T>>,
    pub ground: [T; 4],
    pub gravity: T,
    pub dt: T,
    pub substeps: usize,
    pub mass_matrix_every: usize,
    pub coordinates: usize,
    pub freedoms: usize,
    /// Of each degree of freedom the next one towards the root.
    pub up: Vec<Option<usize>>,
    pub armature: Vec<T>,
    /// Whether the first link floats.
    pub floating: bool,
    /// Degree of freedom and gain of each motor.
    pub motors: Vec<(usize, T)>,
}

impl<T: Scalar> Plan<T> {
    /// # Panics
    /// If the links are not a tree in order, or a free joint is not the first and on the world.
    pub fn new(model: &Model) -> Self {
        let of = T::of;
        let (mut q, mut v) = (0, 0);
        let mut up = Vec::new();
        let mut armature = Vec::new();
        let mut last_freedom: Vec<Option<usize>> = Vec::new();
        let mut links = Vec::new();
        let mut contacts: Vec<(PlannedContact<T>, f64, [f64; 3], f64)> = Vec::new();
        for (index, (link, mass)) in model.links.iter().zip(model.mass_properties()).enumerate() {
            assert!(link.parent.is_none_or(|parent| parent < index), "link {index} comes before its parent");
            let drive = |drive: &Drive| PlannedDrive {
                axis: drive.axis.map(of),
                lower: of(drive.lower),
                upper: of(drive.upper),
                limit_stiffness: of(drive.limit_stiffness),
                stiffness: of(drive.stiffness),
                target: of(drive.target),
                damping: of(drive.damping + drive.limit_damping),
            };
            let kind = match &link.joint {
                Joint::Free => {
                    let at_origin = link.offset.iter().all(|&x| x == 0.0) && link.turn.is_none();
                    let first = index == 0 && link.parent.is_none();
                    assert!(first && at_origin, "only the first link is free, and hangs on the world's origin");
                    armature.extend([of(0.0); 6]);
                    Kind::Free
                }
                Joint::Revolute(d) => {
                    armature.push(of(d.armature));
                    Kind::Revolute(drive(d))
                }
                Joint::Prismatic(d) => {
                    armature.push(of(d.armature));
                    Kind::Prismatic(drive(d))
                }
                Joint::Fixed => Kind::Fixed,
            };
            let mut above = link.parent.and_then(|parent| last_freedom[parent]);
            for freedom in v..v + link.joint.freedoms() {
                up.push(above);
                above = Some(freedom);
            }
            last_freedom.push(above);
            for (point, thickness) in link.shapes.iter().flat_map(Shape::contact_points) {
                let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
                let same = contacts.iter_mut().find(|(contact, _, there, thick)| {
                    contact.link == index && (0..3).all(|i| close(there[i], point[i])) && close(*thick, thickness)
                });
                if let Some((contact, count, ..)) = same {
                    *count += 1.0;
                    contact.count = of(*count);
                } else {
                    let contact =
                        PlannedContact { link: index, point: point.map(of), thickness: of(thickness), count: of(1.0) };
                    contacts.push((contact, 1.0, point, thickness));
                }
            }
            links.push(PlannedLink {
                parent: link.parent,
                kind,
                offset: link.offset.map(of),
                turn: link.turn.map(|turn| turn.map(of)),
                q,
                v,
                massive: mass.mass > 0.0,
                mass: of(mass.mass),
                com: mass.com.map(of),
                inertia: mass.inertia.map(of),
            });
            q += link.joint.coordinates();
            v += link.joint.freedoms();
        }
        let ground = model.ground;
        Self {
            floating: matches!(model.links.first().map(|link| link.joint), Some(Joint::Free)),
            links,
            contacts: if ground.is_some() {
                contacts.into_iter().map(|(contact, ..)| contact).collect()
            } else {
                vec![]
            },
            ground: ground.map_or([0.0; 4], |g| [g.ke, g.kd, g.kf, g.mu]).map(of),
            gravity: of(model.gravity),
            dt: of(model.dt),
            substeps: model.substeps,
            mass_matrix_every: model.mass_matrix_every,
            motors: model.motors.iter().map(|motor| (motor.freedom, of(motor.gain))).collect(),
            coordinates: q,
            freedoms: v,
            up,
            armature,
        }
    }
}
